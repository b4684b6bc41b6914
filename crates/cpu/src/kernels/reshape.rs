//! The same elements under another shape: nothing to do in place, else a copy. Bound by memory.

use super::pointwise::CHUNK;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, launch};

struct Moved<'a, T> {
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Send + Sync> Kernel for Moved<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let from = task * CHUNK;
        let len = CHUNK.min(self.x.len() - from);
        unsafe { std::ptr::copy_nonoverlapping(self.x.at(from), self.y.at(from), len) };
    }
}

/// `y = x`; `y` may be `x`, in place.
pub fn reshape<'a, T: Send + Sync + 'a>(pool: &ThreadPool, x: impl Into<View<'a, T>>, y: impl Into<Out<'a, T>>) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "reshape: x and y differ in size");
    if !std::ptr::eq(x.at(0), y.at(0)) {
        launch(pool, x.len().div_ceil(CHUNK), &Moved { x, y });
    }
}
