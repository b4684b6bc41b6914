//! How elementwise ops walk their elements: fixed chunks, each the work of one task.

use crate::pool::{Scratch, ThreadPool};
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// Elements per task: 64 KiB of f32, and a multiple of every vector width and of Philox's four words.
pub(crate) const CHUNK: usize = 16 * 1024;

/// An op whose outputs at element i depend on its inputs at element i.
pub(crate) trait Pointwise: Sync {
    /// Computes elements `i..i + lanes`.
    ///
    /// # Safety
    /// The machine runs level `S`; the elements exist; nobody else writes them.
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize);
}

struct Chunks<'a, P> {
    op: &'a P,
    len: usize,
}

impl<P: Pointwise> Kernel for Chunks<'_, P> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let from = task * CHUNK;
        for_lanes!(S, CHUNK.min(self.len - from), |i, lanes| { unsafe { self.op.at::<S>(from + i, lanes) } });
    }
}

/// Applies an op to elements `0..len`.
pub(crate) fn for_each<P: Pointwise>(pool: &ThreadPool, len: usize, op: &P) {
    launch(pool, len.div_ceil(CHUNK), &Chunks { op, len });
}

/// Rows per task for ops that work row by row.
pub(crate) fn rows_per_task(row_len: usize) -> usize {
    (CHUNK / row_len.max(1)).max(1)
}
