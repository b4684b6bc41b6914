//! torch.nn.Conv1d.

use crate::modules::convolution::parameters;
use crate::{ConvOptions, Error, Graph, Tensor};

/// A convolution along one axis, as torch.nn.Conv1d with a padding of zeros.
#[derive(Debug, Clone, Copy)]
pub struct Conv1d {
    /// [outputs, inputs/groups, kernel]; at first uniform in ±1/√fan_in, with fan_in = inputs/groups·kernel.
    pub weight: Tensor,
    /// [outputs]; at first uniform in ±1/√fan_in.
    pub bias: Option<Tensor>,
    /// Where windows lie: the second numbers count.
    pub options: ConvOptions,
}

impl Conv1d {
    /// Makes `<name>.weight` and, with a `bias`, `<name>.bias`: `channels` in and out, windows of `kernel` elements. Of the
    /// options' numbers the second ones count, those of columns; the first stay as by default.
    ///
    /// # Errors
    /// A name that exists, sizes of 0, groups that do not divide the channels.
    pub fn new(
        g: &mut Graph,
        name: &str,
        channels: [usize; 2],
        kernel: usize,
        options: ConvOptions,
        bias: bool,
    ) -> Result<Self, Error> {
        let (weight, bias) = parameters(g, name, channels, &[kernel], options.groups, bias)?;
        Ok(Conv1d { weight, bias, options })
    }

    /// x [B, inputs, W]; y [B, outputs, W′], sizes as of [`Graph::conv2d`].
    ///
    /// # Errors
    /// An x that does not fit, windows larger than a padded x, numbers of rows that are not the default's.
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        g.conv1d(x, self.weight, self.bias, self.options)
    }
}
