//! Copies operands into the two layouts that the tile kernel reads.
//!
//! Rows (left operand): row i at `i * ROW_STRIDE`, its k values one after the other. The stride is a constant with an
//! odd number of cache lines, so that a tile's rows are addressed by displacement and never share a cache set.
//! Panels (right operand): blocks of `2 * LANES` columns, each `[k][2 * LANES]`; columns beyond the operand are zero up
//! to the next multiple of LANES. Invariant: nothing beyond the operand's logical size is read.

use super::blocks::ROW_STRIDE;
use crate::element::Element;
use crate::simd::{Simd, for_lanes, unrolled};

/// A strided operand: element (i, j) at `start + i * row_stride + j * col_stride`.
pub(crate) struct Source<T> {
    pub start: *const T,
    pub row_stride: usize,
    pub col_stride: usize,
}

impl<T> Clone for Source<T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Source<T> {}

impl<T> Source<T> {
    /// The operand seen from row `i`, column `j` on.
    #[inline(always)]
    pub(crate) unsafe fn from(self, i: usize, j: usize) -> Self {
        Source { start: unsafe { self.start.add(i * self.row_stride + j * self.col_stride) }, ..self }
    }

    /// The same memory as 16-bit words, for operands that are bf16.
    #[cfg(target_arch = "x86_64")]
    pub(super) fn as_words(self) -> Source<u16> {
        debug_assert_eq!(size_of::<T>(), size_of::<u16>());
        Source { start: self.start.cast(), row_stride: self.row_stride, col_stride: self.col_stride }
    }

    /// The same with rows and columns exchanged.
    #[inline(always)]
    pub(crate) fn transposed(self) -> Self {
        Source { start: self.start, row_stride: self.col_stride, col_stride: self.row_stride }
    }
}

/// A packed right operand.
#[derive(Clone, Copy)]
pub(crate) struct Panels {
    pub start: *const f32,
    /// Words along k in a panel.
    pub words: usize,
}

/// Packs `rows` x `k` of the left operand as rows.
#[inline(always)]
pub(crate) unsafe fn pack_rows<S: Simd, T: Element>(a: Source<T>, rows: usize, k: usize, to: *mut f32) {
    unsafe {
        if a.col_stride == 1 {
            for i in 0..rows {
                let (from, to) = (a.start.add(i * a.row_stride), to.add(i * ROW_STRIDE));
                for_lanes!(S, k, |p, lanes| { S::store(to.add(p), T::load::<S>(from.add(p), lanes)) });
            }
        } else if a.row_stride == 1 {
            for_lanes!(S, k, |p, depth| {
                for_lanes!(S, rows, |i, across| {
                    transpose_block::<S, T>(
                        a.transposed().from(p, i),
                        depth,
                        across,
                        to.add(i * ROW_STRIDE + p),
                        ROW_STRIDE,
                    );
                });
            });
        } else {
            for i in 0..rows {
                for p in 0..k {
                    *to.add(i * ROW_STRIDE + p) = (*a.from(i, p).start).to_f32();
                }
            }
        }
    }
}

/// Packs `k` x `cols` of the right operand as panels.
#[inline(always)]
pub(crate) unsafe fn pack_panels<S: Simd, T: Element>(b: Source<T>, k: usize, cols: usize, to: *mut f32) {
    unsafe {
        let width = 2 * S::LANES;
        if b.col_stride == 1 {
            // Along the rows of the operand, so that memory is read in order.
            for p in 0..k {
                for_lanes!(S, cols, |j, lanes| {
                    let to = to.add(j / width * width * k + j % width + p * width);
                    S::store(to, T::load::<S>(b.from(p, j).start, lanes));
                });
            }
            return;
        }
        // Half a panel at a time: LANES columns.
        for_lanes!(S, cols, |j, across| {
            let to = to.add(j / width * width * k + j % width);
            if b.row_stride == 1 {
                for_lanes!(S, k, |p, depth| {
                    transpose_block::<S, T>(b.transposed().from(j, p), across, depth, to.add(p * width), width);
                });
            } else {
                for p in 0..k {
                    for lane in 0..S::LANES {
                        let inside = lane < across;
                        *to.add(p * width + lane) = if inside { (*b.from(p, j + lane).start).to_f32() } else { 0.0 };
                    }
                }
            }
        });
    }
}

/// Writes the transpose of a `rows` x `cols` block (each at most LANES, columns contiguous) as `cols` full vectors.
#[inline(always)]
unsafe fn transpose_block<S: Simd, T: Element>(from: Source<T>, rows: usize, cols: usize, to: *mut f32, stride: usize) {
    unsafe {
        let mut block = [S::splat(0.0); 16];
        if rows == S::LANES && cols == S::LANES {
            unrolled!(S::LANES, |I| { block[I] = T::load::<S>(from.start.add(I * from.row_stride), S::LANES) });
            S::transpose(&mut block);
            unrolled!(S::LANES, |I| { S::store(to.add(I * stride), block[I]) });
        } else {
            for (i, row) in block.iter_mut().enumerate().take(rows) {
                *row = T::load::<S>(from.start.add(i * from.row_stride), cols);
            }
            S::transpose(&mut block);
            for (j, column) in block.iter().enumerate().take(cols) {
                S::store(to.add(j * stride), *column);
            }
        }
    }
}
