//! Windows over images, for convolution and pooling: which element of an image is which of a window.

use remat_ir::ops::Window;

/// The sizes of a convolution.
#[derive(Debug, Clone, Copy)]
pub struct ConvSize {
    /// B.
    pub batch: usize,
    /// Groups of channels, which do not mix.
    pub groups: usize,
    /// C / groups.
    pub inputs: usize,
    /// O / groups.
    pub outputs: usize,
    /// H, W.
    pub image: [usize; 2],
    /// R, S.
    pub kernel: [usize; 2],
    /// H', W'.
    pub result: [usize; 2],
    /// Where windows lie.
    pub window: Window,
}

impl ConvSize {
    /// Elements of one channel of x.
    pub(super) fn pixels(&self) -> usize {
        self.image[0] * self.image[1]
    }

    /// Elements of one channel of y.
    pub(super) fn places(&self) -> usize {
        self.result[0] * self.result[1]
    }

    /// Terms of one channel's kernel.
    pub(super) fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    pub(super) fn check(&self, name: &str, [x, w, y]: [usize; 3]) {
        let ConvSize { batch, groups, inputs, outputs, .. } = *self;
        assert_eq!(x, batch * groups * inputs * self.pixels(), "{name}: x is not {self:?}");
        assert_eq!(w, groups * outputs * inputs * self.taps(), "{name}: w is not {self:?}");
        assert_eq!(y, batch * groups * outputs * self.places(), "{name}: y is not {self:?}");
        assert_eq!(self.window.output(self.image, self.kernel), Ok(self.result), "{name}: y is not {self:?}");
    }

    /// Writes what element `tap` of a window is of windows `cols` of all images, a row of y after the other, of one channel:
    /// `x` is that channel of the first image, `stride` how far the next one's is; 0 outside of an image.
    ///
    /// # Safety
    /// The windows exist, and so does that channel of each of their images; `to` has room for them.
    #[inline(always)]
    pub(super) unsafe fn gather<T: Copy>(
        &self,
        x: *const T,
        stride: usize,
        tap: usize,
        cols: std::ops::Range<usize>,
        zero: T,
        to: *mut T,
    ) {
        let ([_, width], [result_rows, result_cols]) = (self.image, self.result);
        let (r, s) = (tap / self.kernel[1], tap % self.kernel[1]);
        let mut col = cols.start;
        while col < cols.end {
            let (row, first) = (col / result_cols, col % result_cols);
            let count = (result_cols - first).min(cols.end - col);
            let to = unsafe { std::slice::from_raw_parts_mut(to.add(col - cols.start), count) };
            let (image, at) = (row / result_rows, row % result_rows);
            match self.window.input(0, at, r, self.image[0]) {
                None => to.fill(zero),
                Some(line) => unsafe { self.line(x.add(image * stride + line * width), s, first, zero, to) },
            }
            col += count;
        }
    }

    /// The same of windows `first` on of one row of y, whose elements lie in one line of x.
    #[inline(always)]
    unsafe fn line<T: Copy>(&self, x: *const T, s: usize, first: usize, zero: T, to: &mut [T]) {
        let (width, stride, shift) = (self.image[1], self.window.stride[1], s * self.window.dilation[1]);
        let padding = self.window.padding[1];
        // Windows that lie inside: padding <= at * stride + shift < padding + width.
        let inside_from = padding.saturating_sub(shift).div_ceil(stride);
        let inside_to = (padding + width).saturating_sub(shift).div_ceil(stride);
        let end = first + to.len();
        let (from, until) = (inside_from.clamp(first, end), inside_to.clamp(first, end));
        let until = until.max(from);
        to[..from - first].fill(zero);
        to[until - first..].fill(zero);
        let inside = &mut to[from - first..until - first];
        if inside.is_empty() {
            return;
        }
        unsafe {
            let start = x.add(from * stride + shift - padding);
            if stride == 1 {
                inside.copy_from_slice(std::slice::from_raw_parts(start, inside.len()));
            } else {
                inside.iter_mut().enumerate().for_each(|(i, to)| *to = *start.add(i * stride));
            }
        }
    }
}
