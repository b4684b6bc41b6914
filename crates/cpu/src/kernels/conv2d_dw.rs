//! Gradients of a convolution's parameters: dw as a product of the cotangents `[O, B P]` of a group with its windows
//! `[B P, K]`, and db as sums over images and places. The results are f32 whatever the activations are. Work 2 B O P K FLOP.
//!
//! Look at `gathered_product.rs` for the product and its numbers: images and places are summed in order.

use std::ops::Range;

use super::channel_sums::{ChannelSize, ChannelTerm, channel_sums};
use super::conv2d::gather_windows;
use super::gathered_product::{Product, Room, multiply};
use super::gemm::pack::Source;
use super::windows::ConvSize;
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

struct WeightGradient<'a, T> {
    size: ConvSize,
    dy: &'a [T],
    x: &'a [T],
    accumulate: bool,
    dw: Out<'a, f32>,
}

/// dw `[O, C / groups, R, S]` of `conv2d`, and db `[O]` if wanted, onto what they hold if `accumulate`.
pub fn conv2d_dw<T: Element>(
    pool: &ThreadPool,
    size: ConvSize,
    dy: &[T],
    x: &[T],
    accumulate: bool,
    dw: &mut [f32],
    db: Option<&mut [f32]>,
) {
    size.check("conv2d_dw", [x.len(), dw.len(), dy.len()]);
    multiply(pool, &WeightGradient { size, dy, x, accumulate, dw: Out::new(dw) });
    if let Some(db) = db {
        let channels = ChannelSize { batch: size.batch, channels: size.groups * size.outputs, places: size.places() };
        channel_sums(pool, channels, &Cotangents { dy, size: channels }, accumulate, db);
    }
}

struct Cotangents<'a, T> {
    dy: &'a [T],
    size: ChannelSize,
}

impl<T: Element> ChannelTerm for Cotangents<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, image: usize, channel: usize, place: usize, lanes: usize) -> S::V {
        unsafe { T::load::<S>(self.dy.as_ptr().add(self.size.at(image, channel) + place), lanes) }
    }
}

impl<T: Element> Product for WeightGradient<'_, T> {
    type Operand = T;
    /// Narrow, since there are few columns and long sums.
    const COLS: usize = 64;

    fn count(&self) -> usize {
        self.size.groups
    }

    fn size(&self, _group: usize) -> [usize; 3] {
        let size = &self.size;
        [size.outputs, size.inputs * size.taps(), size.batch * size.places()]
    }

    fn most(&self) -> [usize; 2] {
        [self.size.outputs, self.size.inputs * self.size.taps()]
    }

    #[inline(always)]
    unsafe fn left(&self, group: usize, rows: Range<usize>, depth: Range<usize>, room: Room<T>) -> Source<T> {
        let (size, places) = (&self.size, self.size.places());
        let channels = size.groups * size.outputs;
        for (line, row) in rows.enumerate() {
            let (channel, mut at) = (group * size.outputs + row, depth.start);
            while at < depth.end {
                let count = (places - at % places).min(depth.end - at);
                let from = (at / places * channels + channel) * places + at % places;
                // SAFETY: the room has as many elements as the block.
                let to =
                    unsafe { std::slice::from_raw_parts_mut(room.add(line * depth.len() + at - depth.start), count) };
                to.copy_from_slice(&self.dy[from..from + count]);
                at += count;
            }
        }
        Source { start: room, row_stride: depth.len(), col_stride: 1 }
    }

    #[inline(always)]
    unsafe fn right(&self, group: usize, depth: Range<usize>, cols: Range<usize>, room: Room<T>) -> Source<T> {
        // The windows' own rows are this product's columns.
        unsafe { gather_windows(&self.size, self.x, group, cols, depth.clone(), room) };
        Source { start: room, row_stride: 1, col_stride: depth.len() }
    }

    #[inline(always)]
    unsafe fn begin(&self, group: usize, row: usize, cols: Range<usize>, sums: &mut [f32]) -> bool {
        if self.accumulate {
            let from = self.at(group, row, cols.start);
            sums.iter_mut().enumerate().for_each(|(i, sum)| *sum = unsafe { *self.dw.at(from + i) });
        }
        self.accumulate
    }

    #[inline(always)]
    unsafe fn store(&self, group: usize, row: usize, cols: Range<usize>, sums: &[f32]) {
        let to = self.at(group, row, cols.start);
        sums.iter().enumerate().for_each(|(i, sum)| unsafe { *self.dw.at(to + i) = *sum });
    }
}

impl<T> WeightGradient<'_, T> {
    fn at(&self, group: usize, row: usize, col: usize) -> usize {
        (group * self.size.outputs + row) * self.size.inputs * self.size.taps() + col
    }
}
