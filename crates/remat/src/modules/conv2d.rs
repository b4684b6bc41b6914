//! torch.nn.Conv2d.

use crate::modules::convolution::parameters;
use crate::{ConvOptions, Error, Graph, Tensor};

/// A convolution of images, as torch.nn.Conv2d with a padding of zeros.
#[derive(Debug, Clone, Copy)]
pub struct Conv2d {
    /// [outputs, inputs/groups, rows, columns]; at first uniform in ±1/√fan_in, with fan_in = inputs/groups·rows·columns.
    pub weight: Tensor,
    /// [outputs]; at first uniform in ±1/√fan_in.
    pub bias: Option<Tensor>,
    /// Where windows lie.
    pub options: ConvOptions,
}

impl Conv2d {
    /// Makes `<name>.weight` and, with a `bias`, `<name>.bias`: `channels` in and out, windows of `kernel` rows and columns.
    ///
    /// ```
    /// use remat::{ConvOptions, DType, Graph, modules::Conv2d};
    ///
    /// # fn main() -> Result<(), remat::Error> {
    /// let mut g = Graph::new();
    /// let images = g.input("images", DType::F32, &[4, 3, 32, 32])?;
    /// let halving = ConvOptions { stride: [2, 2], padding: [1, 1], ..ConvOptions::default() };
    /// let conv = Conv2d::new(&mut g, "conv", [3, 16], [3, 3], halving, true)?;
    /// let y = conv.forward(&mut g, images)?;
    /// assert_eq!(g.ty(y)?.to_string(), "f32[4, 16, 16, 16]");
    /// # Ok(()) }
    /// ```
    ///
    /// # Errors
    /// A name that exists, sizes of 0, groups that do not divide the channels.
    pub fn new(
        g: &mut Graph,
        name: &str,
        channels: [usize; 2],
        kernel: [usize; 2],
        options: ConvOptions,
        bias: bool,
    ) -> Result<Self, Error> {
        let (weight, bias) = parameters(g, name, channels, &kernel, options.groups, bias)?;
        Ok(Conv2d { weight, bias, options })
    }

    /// x [B, inputs, H, W]; y [B, outputs, H′, W′], sizes as of [`Graph::conv2d`].
    ///
    /// # Errors
    /// An x that does not fit, windows larger than a padded image.
    pub fn forward(&self, g: &mut Graph, x: Tensor) -> Result<Tensor, Error> {
        g.conv2d(x, self.weight, self.bias, self.options)
    }
}
