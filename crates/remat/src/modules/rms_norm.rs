//! torch.nn.RMSNorm.

use crate::{Error, Graph, Init, Tensor};

/// Normalisation by the root mean square of the last axis, as torch.nn.RMSNorm.
#[derive(Debug, Clone, Copy)]
pub struct RmsNorm {
    /// [width]; at first 1.
    pub weight: Tensor,
    /// Added to the mean square. PyTorch takes f32's machine epsilon, [`f32::EPSILON`], where nothing is given.
    pub eps: f32,
}

impl RmsNorm {
    /// Makes `<name>.weight`.
    ///
    /// # Errors
    /// A name that exists, a width of 0.
    pub fn new(g: &mut Graph, name: &str, width: usize, eps: f32) -> Result<Self, Error> {
        g.scope(name, |g| Ok(RmsNorm { weight: g.parameter("weight", &[width], Init::Ones)?, eps }))
    }

    /// x [.., width]; y like x.
    ///
    /// # Errors
    /// An x that does not fit, an `eps` below 0.
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        g.rms_norm(x, self.weight, self.eps)
    }
}
