//! torch.nn.GroupNorm.

use crate::{Error, Graph, Init, Tensor};

/// Normalisation over groups of channels of each image, as torch.nn.GroupNorm. With a group for each channel it is
/// torch.nn.InstanceNorm with `affine`.
#[derive(Debug, Clone, Copy)]
pub struct GroupNorm {
    /// [channels]; at first 1.
    pub weight: Tensor,
    /// [channels]; at first 0.
    pub bias: Tensor,
    /// Groups, which divide the channels.
    pub groups: usize,
    /// Added to the variance; 1e-5 in PyTorch.
    pub eps: f32,
}

impl GroupNorm {
    /// Makes `<name>.weight` and `<name>.bias`.
    ///
    /// # Errors
    /// A name that exists, groups that do not divide the channels.
    pub fn new(g: &mut Graph, name: &str, groups: usize, channels: usize, eps: f32) -> Result<Self, Error> {
        if groups == 0 || !channels.is_multiple_of(groups) {
            let message = format!("group norm \"{name}\": {groups} groups do not divide {channels} channels");
            return Err(Error::NotCompiledFor(message));
        }
        g.scope(name, |g| {
            let weight = g.parameter("weight", &[channels], Init::Ones)?;
            Ok(GroupNorm { weight, bias: g.parameter("bias", &[channels], Init::Zeros)?, groups, eps })
        })
    }

    /// x [B, channels, ..]; y like x.
    ///
    /// # Errors
    /// An x that does not fit, an `eps` below 0.
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        g.group_norm(x, self.groups, [self.weight, self.bias], self.eps)
    }
}
