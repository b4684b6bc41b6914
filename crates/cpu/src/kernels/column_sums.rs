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
/// Columns per task: one page-friendly strip of four 512-bit vectors.
pub(crate) const STRIP: usize = 64;

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
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let from = task * STRIP;
        for_lanes!(S, STRIP.min(self.cols - from), |d, lanes| {
            unsafe {
                let at = self.out.at(from + d);
                let mut total = if self.accumulate { S::load_partial(at, lanes) } else { S::splat(0.0) };
                for first in (0..self.rows).step_by(REDUCTION_BLOCK) {
                    let mut block = S::splat(0.0);
                    for n in first..(first + REDUCTION_BLOCK).min(self.rows) {
                        block = S::add(block, self.term.at::<S>(n, from + d, lanes));
                    }
                    total = S::add(total, block);
                }
                S::store_partial(at, total, lanes);
            }
        });
    }
}

/// Sums `rows` terms of each of `out.len()` columns, onto what `out` holds if `accumulate`.
pub(crate) fn column_sums<T: Term>(pool: &ThreadPool, rows: usize, term: &T, accumulate: bool, out: &mut [f32]) {
    let cols = out.len();
    let kernel = ColumnSums { term, rows, cols, accumulate, out: Out::new(out) };
    launch(pool, cols.div_ceil(STRIP), &kernel);
}
