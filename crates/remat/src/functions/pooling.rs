//! Maxima and means of windows.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};
use ops::PoolKind;

/// Where the windows of [`Graph::max_pool2d`] and [`Graph::avg_pool2d`] lie, rows first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PoolOptions {
    /// Rows and columns of a window.
    pub kernel: [usize; 2],
    /// Elements between neighbouring windows.
    pub stride: [usize; 2],
    /// How far windows reach over the edge, at most half of one.
    pub padding: [usize; 2],
    /// Elements between neighbours of a window; of means 1.
    pub dilation: [usize; 2],
    /// Whether a mean is over padding, too, as zeros.
    pub count_include_pad: bool,
}

impl PoolOptions {
    /// Windows side by side, no padding: PyTorch's default for a kernel.
    pub fn new(kernel: [usize; 2]) -> Self {
        PoolOptions { kernel, stride: kernel, padding: [0, 0], dilation: [1, 1], count_include_pad: true }
    }
}

impl Graph {
    /// The largest element of each window: x [B, C, H, W], or [B, C, W] with a kernel of one row; y [B, C, H′, W′], sizes as of
    /// [`Graph::conv2d`]. Of equal ones the first has the gradient; backward reads x to find it again.
    ///
    /// # Errors
    /// Windows larger than a padded image, a padding of more than half a window.
    pub fn max_pool2d(&mut self, x: Tensor, options: PoolOptions) -> Result<Tensor, Error> {
        self.pool2d("max_pool2d", PoolKind::Max, x, options)
    }

    /// The mean of each window: x [B, C, H, W], or [B, C, W] with a kernel of one row; y [B, C, H′, W′], sizes as of
    /// [`Graph::conv2d`].
    ///
    /// # Errors
    /// As [`Graph::max_pool2d`]; a dilation.
    pub fn avg_pool2d(&mut self, x: Tensor, options: PoolOptions) -> Result<Tensor, Error> {
        let kind = if options.count_include_pad { PoolKind::Mean } else { PoolKind::MeanInside };
        self.pool2d("avg_pool2d", kind, x, options)
    }

    /// The mean of each channel of each image: x [B, C, H, W]; y [B, C, 1, 1].
    ///
    /// # Errors
    /// An x that has no images.
    pub fn global_avg_pool2d(&mut self, x: Tensor) -> Result<Tensor, Error> {
        let [_, _, height, width] = ops::image_sizes(self.ty(x)?.shape.dims());
        self.avg_pool2d(x, PoolOptions::new([height, width]))
    }

    fn pool2d(&mut self, name: &str, kind: PoolKind, x: Tensor, options: PoolOptions) -> Result<Tensor, Error> {
        let PoolOptions { kernel, stride, padding, dilation, .. } = options;
        let window = ops::Window { stride, padding, dilation };
        self.check_rows(name, x, &window)?;
        let op = ops::Pool2d { kind, kernel, window };
        self.op1(name, op, &[x])
    }
}
