//! Sums of elements by their number along an axis: the gradients of `gather` and `take_along_axis`. Bound by memory.
//!
//! Numbers: f32 in scratch, in the order of ids; rounded once. A task owns columns, so that threads change no bit. Where a column
//! does not fit the scratch, ids are walked once for each part of it.

use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// Neighbouring columns per task, at most.
const STRIP: usize = 256;

/// Which number an element has.
pub(super) trait Numbers: Sync {
    /// Whether columns `from..from + width` of a row of block `outer` may have different numbers.
    const BY_COLUMN: bool;
    /// The number of column `column` in row `row` of block `outer`.
    fn of(&self, outer: usize, row: usize, column: usize) -> usize;
}

struct Sums<'a, T, I> {
    ids: &'a I,
    /// Rows of dy in each block.
    rows: usize,
    size: usize,
    inner: usize,
    dy: &'a [T],
    dx: Out<'a, T>,
}

impl<T: Element, I: Numbers> Sums<'_, T, I> {
    /// Adds up what has numbers `first..first + count`, into sums `[count, width]`.
    #[inline(always)]
    unsafe fn add<S: Simd>(&self, outer: usize, from: usize, width: usize, first: usize, sums: &mut [f32]) {
        let count = sums.len() / width;
        sums.fill(0.0);
        for row in 0..self.rows {
            let dy = &self.dy[(outer * self.rows + row) * self.inner + from..][..width];
            if I::BY_COLUMN {
                for (column, dy) in dy.iter().enumerate() {
                    let id = self.ids.of(outer, row, from + column).wrapping_sub(first);
                    if id < count {
                        sums[id * width + column] += dy.to_f32();
                    }
                }
                continue;
            }
            let id = self.ids.of(outer, row, from).wrapping_sub(first);
            if id >= count {
                continue;
            }
            let sum = sums[id * width..][..width].as_mut_ptr();
            for_lanes!(S, width, |i, lanes| {
                unsafe {
                    let term = T::load::<S>(dy.as_ptr().add(i), lanes);
                    f32::store::<S>(sum.add(i), S::add(f32::load::<S>(sum.add(i), lanes), term), lanes);
                }
            });
        }
    }
}

impl<T: Element, I: Numbers> Kernel for Sums<'_, T, I> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let strips = self.inner.div_ceil(STRIP);
        let (outer, from) = (task / strips, task % strips * STRIP);
        let width = STRIP.min(self.inner - from);
        let scratch = scratch.f32s();
        let fits = (scratch.len() / width).min(self.size);
        for first in (0..self.size).step_by(fits) {
            let count = fits.min(self.size - first);
            let sums = &mut scratch[..count * width];
            unsafe { self.add::<S>(outer, from, width, first, sums) };
            for (number, sums) in sums.chunks(width).enumerate() {
                let to = (outer * self.size + first + number) * self.inner + from;
                for_lanes!(S, width, |i, lanes| {
                    unsafe {
                        let sum = f32::load::<S>(sums.as_ptr().add(i), lanes);
                        T::store::<S>(self.dx.at(to + i), sum, lanes);
                    }
                });
            }
        }
    }
}

/// dx `[outer, size, inner]` from dy `[outer, rows, inner]`; numbers are in `0..size`.
pub(super) fn scatter<T: Element>(
    pool: &ThreadPool,
    [outer, size, inner]: [usize; 3],
    ids: &impl Numbers,
    dy: &[T],
    dx: &mut [T],
) {
    let rows = dy.len() / (outer * inner);
    assert_eq!(
        [dy.len(), dx.len()],
        [outer * rows * inner, outer * size * inner],
        "scatter: dy or dx has another size"
    );
    launch(pool, outer * inner.div_ceil(STRIP), &Sums { ids, rows, size, inner, dy, dx: dx.into() });
}

#[cfg(test)]
mod tests {
    use super::super::gather_grad::gather_grad;
    use super::*;
    use crate::pool::SCRATCH_BYTES_PER_THREAD;

    #[test]
    fn columns_that_do_not_fit_the_scratch_are_made_in_parts() {
        let (size, inner) = (SCRATCH_BYTES_PER_THREAD / 4 / STRIP * 2 + 3, STRIP + 1);
        let ids: Vec<i32> = [0, size - 1, 5, size - 1, size / 2].map(|id| id as i32).to_vec();
        let dy: Vec<f32> = (0..ids.len() * inner).map(|i| i as f32).collect();
        let mut dx = vec![f32::NAN; size * inner];
        gather_grad(&ThreadPool::new(2), [1, size, inner], &dy, &ids, &mut dx);
        let mut want = vec![0.0; size * inner];
        for (row, &id) in ids.iter().enumerate() {
            for column in 0..inner {
                want[id as usize * inner + column] += dy[row * inner + column];
            }
        }
        assert_eq!(dx, want);
    }
}
