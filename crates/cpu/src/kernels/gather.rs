//! Slices along an axis, by their numbers. Bound by memory.

use super::pointwise::rows_per_task;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};

struct Taken<'a, T> {
    x: &'a [T],
    ids: &'a [i32],
    size: usize,
    inner: usize,
    slices: usize,
    y: Out<'a, T>,
}

impl<T: Copy + Send + Sync> Kernel for Taken<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let each = rows_per_task(self.inner);
        for slice in task * each..((task + 1) * each).min(self.slices) {
            let (block, id) = (slice / self.ids.len(), self.ids[slice % self.ids.len()] as usize);
            let from = &self.x[(block * self.size + id) * self.inner..][..self.inner];
            unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), self.y.at(slice * self.inner), self.inner) };
        }
    }
}

/// y `[outer, ids, inner]` from x `[outer, size, inner]`; ids are in `0..size`.
pub fn gather<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    [outer, size, inner]: [usize; 3],
    x: &[T],
    ids: &[i32],
    y: &mut [T],
) {
    let slices = outer * ids.len();
    assert_eq!([x.len(), y.len()], [outer * size * inner, slices * inner], "gather: x or y has another size");
    launch(pool, slices.div_ceil(rows_per_task(inner)), &Taken { x, ids, size, inner, slices, y: y.into() });
}
