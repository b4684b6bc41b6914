//! Convolution as a product of the kernels `[O, K]` of a group with its windows `[K, B P]`, K = C R S and P = H' W', which
//! are gathered block by block. Work 2 B O P K FLOP.
//!
//! Look at `gathered_product.rs` for the product and its numbers, and at `windows.rs` for how windows are gathered.

use std::ops::Range;

use super::gathered_product::{Product, Room, multiply};
use super::gemm::pack::Source;
use super::windows::ConvSize;
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;

struct Forward<'a, T> {
    size: ConvSize,
    x: &'a [T],
    w: &'a [T],
    bias: Option<&'a [T]>,
    y: Out<'a, T>,
}

/// `y = w * x + bias`: x `[B, C, H, W]`, w `[O, C / groups, R, S]`, bias `[O]`, y `[B, O, H', W']`.
pub fn conv2d<T: Element>(pool: &ThreadPool, size: ConvSize, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    size.check("conv2d", [x.len(), w.len(), y.len()]);
    let channels = size.groups * size.outputs;
    assert!(bias.is_none_or(|bias| bias.len() == channels), "conv2d: bias is not [{channels}]");
    multiply(pool, &Forward { size, x, w, bias, y: Out::new(y) });
}

impl<T: Element> Product for Forward<'_, T> {
    type Operand = T;

    fn count(&self) -> usize {
        self.size.groups
    }

    fn size(&self, _group: usize) -> [usize; 3] {
        let size = &self.size;
        [size.outputs, size.batch * size.places(), size.inputs * size.taps()]
    }

    fn most(&self) -> [usize; 2] {
        [self.size.outputs, self.size.batch * self.size.places()]
    }

    #[inline(always)]
    unsafe fn left(&self, group: usize, rows: Range<usize>, depth: Range<usize>, _: Room<T>) -> Source<T> {
        let terms = self.size.inputs * self.size.taps();
        let at = (group * self.size.outputs + rows.start) * terms + depth.start;
        Source { start: unsafe { self.w.as_ptr().add(at) }, row_stride: terms, col_stride: 1 }
    }

    #[inline(always)]
    unsafe fn right(&self, group: usize, depth: Range<usize>, cols: Range<usize>, room: Room<T>) -> Source<T> {
        unsafe { gather_windows(&self.size, self.x, group, depth, cols.clone(), room) };
        Source { start: room, row_stride: cols.len(), col_stride: 1 }
    }

    #[inline(always)]
    unsafe fn store(&self, group: usize, row: usize, cols: Range<usize>, sums: &[f32]) {
        let (channels, places) = (self.size.groups * self.size.outputs, self.size.places());
        let channel = group * self.size.outputs + row;
        let bias = self.bias.map_or(0.0, |bias| bias[channel].to_f32());
        for (col, sum) in cols.zip(sums) {
            let at = (col / places * channels + channel) * places + col % places;
            unsafe { *self.y.at(at) = T::from_f32(sum + bias) };
        }
    }
}

/// Gathers rows `terms` (channel of the group, then element of its window) and columns `cols` (image, then window) of the
/// matrix of windows, row by row.
///
/// # Safety
/// They exist; `room` has as many elements.
#[inline(always)]
pub(super) unsafe fn gather_windows<T: Element>(
    size: &ConvSize,
    x: &[T],
    group: usize,
    terms: Range<usize>,
    cols: Range<usize>,
    room: Room<T>,
) {
    let (taps, pixels) = (size.taps(), size.pixels());
    for (line, term) in terms.enumerate() {
        let channel = group * size.inputs + term / taps;
        unsafe {
            let (from, to) = (x.as_ptr().add(channel * pixels), room.add(line * cols.len()));
            let stride = size.groups * size.inputs * pixels;
            size.gather(from, stride, term % taps, cols.clone(), T::from_f32(0.0), to);
        }
    }
}
