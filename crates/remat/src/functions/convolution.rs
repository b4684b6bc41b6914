//! Convolutions of one and two axes.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};

/// Where the windows of [`Graph::conv2d`] lie, rows first, and which channels mix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConvOptions {
    /// Elements between neighbouring windows.
    pub stride: [usize; 2],
    /// Zeros around an image.
    pub padding: [usize; 2],
    /// Elements between neighbours of a window.
    pub dilation: [usize; 2],
    /// Groups of channels that do not mix.
    pub groups: usize,
}

impl Default for ConvOptions {
    /// One by one, no padding, no gaps, one group: PyTorch's.
    fn default() -> Self {
        ConvOptions { stride: [1, 1], padding: [0, 0], dilation: [1, 1], groups: 1 }
    }
}

impl Graph {
    /// Convolution of images: x [B, C, H, W], w [O, C/groups, R, S], bias [O]; y [B, O, H′, W′], with
    /// H′ = ⌊(H + 2·padding − dilation·(R − 1) − 1)/stride⌋ + 1 and W′ alike.
    ///
    /// # Errors
    /// Operands that do not fit, windows larger than a padded image.
    pub fn conv2d(
        &mut self,
        x: Tensor,
        w: Tensor,
        bias: Option<Tensor>,
        options: ConvOptions,
    ) -> Result<Tensor, Error> {
        self.convolution("conv2d", [x, w], bias, options)
    }

    /// Convolution along one axis: x [B, C, W], w [O, C/groups, S], bias [O]; y [B, O, W′]. Of the options' numbers the second
    /// ones count, those of columns; the first stay as by default.
    ///
    /// # Errors
    /// As [`Graph::conv2d`].
    pub fn conv1d(
        &mut self,
        x: Tensor,
        w: Tensor,
        bias: Option<Tensor>,
        options: ConvOptions,
    ) -> Result<Tensor, Error> {
        self.convolution("conv1d", [x, w], bias, options)
    }

    /// Refuses numbers for rows where x has none: they would mean nothing.
    pub(super) fn check_rows(&self, name: &str, x: Tensor, window: &ops::Window) -> Result<(), Error> {
        if self.ty(x)?.shape.len() != 3 || (window.stride[0], window.padding[0], window.dilation[0]) == (1, 0, 1) {
            return Ok(());
        }
        Err(Error::NotCompiledFor(format!(
            "{name}: x {} has one axis of places, and the first numbers of stride {:?}, padding {:?} and dilation {:?} are for \
             rows: give 1, 0 and 1 there, and what is meant as the second",
            self.ty(x)?,
            window.stride,
            window.padding,
            window.dilation
        )))
    }

    fn convolution(
        &mut self,
        name: &str,
        operands: [Tensor; 2],
        bias: Option<Tensor>,
        options: ConvOptions,
    ) -> Result<Tensor, Error> {
        let ConvOptions { stride, padding, dilation, groups } = options;
        let window = ops::Window { stride, padding, dilation };
        self.check_rows(name, operands[0], &window)?;
        let op = ops::Conv2d { window, groups, bias: bias.is_some() };
        self.op1(name, op, &operands.into_iter().chain(bias).collect::<Vec<_>>())
    }
}
