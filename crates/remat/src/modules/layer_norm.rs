//! torch.nn.LayerNorm.

use crate::{Error, Graph, Init, Tensor};

/// Layer normalisation over the last axis, as torch.nn.LayerNorm.
#[derive(Debug, Clone, Copy)]
pub struct LayerNorm {
    /// [width]; at first 1.
    pub weight: Tensor,
    /// [width]; at first 0.
    pub bias: Tensor,
    /// Added to the variance; 1e-5 in PyTorch.
    pub eps: f32,
}

impl LayerNorm {
    /// Makes `<name>.weight` and `<name>.bias`.
    ///
    /// # Errors
    /// A name that exists, a width of 0.
    pub fn new(g: &mut Graph, name: &str, width: usize, eps: f32) -> Result<Self, Error> {
        g.scope(name, |g| {
            let weight = g.parameter("weight", &[width], Init::Ones)?;
            Ok(LayerNorm { weight, bias: g.parameter("bias", &[width], Init::Zeros)?, eps })
        })
    }

    /// x [.., width]; y like x.
    ///
    /// # Errors
    /// An x that does not fit, an `eps` below 0.
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        g.layer_norm(x, self.weight, self.bias, self.eps)
    }
}
