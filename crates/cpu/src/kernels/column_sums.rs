//! Sums over tokens, column by column: bias gradients and the gradients of norm weights.
//!
//! Invariant: a column's terms are added in token order within blocks of `REDUCTION_BLOCK`, each block from zero, and
//! the blocks are added onto the result in order. A task owns columns, so threads change no bit, and a call may stop at
//! any multiple of the block and be continued with `accumulate`.

use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// Tokens summed from zero before they join the result.
pub(crate) const REDUCTION_BLOCK: usize = 256;
/// Columns per task: a kibibyte of f32 from each row, so that memory is read in runs.
pub(crate) const STRIP: usize = 256;

/// What is summed.
pub(crate) trait Term: Sync {
    /// The terms of row `n`, columns `d..d + lanes`.
    ///
    /// # Safety
    /// The machine runs level `S`; the elements exist.
    unsafe fn at<S: Simd>(&self, n: usize, d: usize, lanes: usize) -> S::V;
}

struct ColumnSums<'a, T> {
    term: &'a T,
    rows: usize,
    cols: usize,
    accumulate: bool,
    out: Out<'a, f32>,
}

impl<T: Term> Kernel for ColumnSums<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let (from, width) = (task * STRIP, STRIP.min(self.cols - task * STRIP));
        let (total, block) = scratch.f32s()[..2 * STRIP].split_at_mut(STRIP);
        let (total, block) = (total.as_mut_ptr(), block.as_mut_ptr());
        unsafe {
            let onto = self.out.at(from);
            total.write_bytes(0, STRIP);
            if self.accumulate {
                total.copy_from_nonoverlapping(onto, width);
            }
            for first in (0..self.rows).step_by(REDUCTION_BLOCK) {
                block.write_bytes(0, STRIP);
                for n in first..(first + REDUCTION_BLOCK).min(self.rows) {
                    for_lanes!(S, width, |d, lanes| {
                        let term = self.term.at::<S>(n, from + d, lanes);
                        S::store(block.add(d), S::add(S::load(block.add(d)), term));
                    });
                }
                for_lanes!(S, width, |d, _lanes| {
                    S::store(total.add(d), S::add(S::load(total.add(d)), S::load(block.add(d))));
                });
            }
            onto.copy_from_nonoverlapping(total, width);
        }
    }
}

/// Sums `rows` terms of each of `out.len()` columns, onto what `out` holds if `accumulate`.
pub(crate) fn column_sums<T: Term>(pool: &ThreadPool, rows: usize, term: &T, accumulate: bool, out: &mut [f32]) {
    let cols = out.len();
    let kernel = ColumnSums { term, rows, cols, accumulate, out: Out::new(out) };
    launch(pool, cols.div_ceil(STRIP), &kernel);
}
