//! Single elements along an axis, by their numbers. Bound by memory.

use super::pointwise::CHUNK;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};

struct Taken<'a, T> {
    x: &'a [T],
    ids: &'a [i32],
    size: usize,
    inner: usize,
    /// Elements of y in each block.
    block: usize,
    y: Out<'a, T>,
}

impl<T: Copy + Send + Sync> Kernel for Taken<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        for at in task * CHUNK..((task + 1) * CHUNK).min(self.ids.len()) {
            let (outer, id) = (at / self.block, self.ids[at] as usize);
            unsafe { *self.y.at(at) = self.x[(outer * self.size + id) * self.inner + at % self.inner] };
        }
    }
}

/// y, of the shape of ids `[outer, taken, inner]`, from x `[outer, size, inner]`; ids are in `0..size`.
pub fn take_along_axis<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    [outer, size, inner]: [usize; 3],
    x: &[T],
    ids: &[i32],
    y: &mut [T],
) {
    assert_eq!([x.len(), y.len()], [outer * size * inner, ids.len()], "take_along_axis: x or y has another size");
    let kernel = Taken { x, ids, size, inner, block: ids.len() / outer, y: y.into() };
    launch(pool, ids.len().div_ceil(CHUNK), &kernel);
}
