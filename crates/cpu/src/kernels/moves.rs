//! Copies between strided places: what `expand`, `transpose`, `slice` and `pad` do. Bound by memory.
//!
//! Where the source lies across the target, squares of both are copied at a time, so that each cache line that is read is used
//! before it leaves the cache.

use super::strided::{Axes, Run, Walk, for_each_run};
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;

struct Moves<'a, T> {
    from: View<'a, T>,
    to: Out<'a, T>,
    /// Where the first element is, in the target and in the source.
    first: [usize; 2],
}

impl<T: Copy + Send + Sync> Run<2> for Moves<'_, T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, len: usize, [to, from]: [usize; 2], [to_step, from_step]: [usize; 2]) {
        let (to, from) = (self.to.at(self.first[0] + to), self.from.at(self.first[1] + from));
        unsafe {
            match (to_step, from_step) {
                (1, 1) => std::ptr::copy_nonoverlapping(from, to, len),
                (1, 0) => (0..len).for_each(|i| *to.add(i) = *from),
                _ => (0..len).for_each(|i| *to.add(i * to_step) = *from.add(i * from_step)),
            }
        }
    }
}

/// A tensor's elements by strides, and where the first is.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub strides: Axes,
    pub first: usize,
}

/// Copies a tensor of this shape from one place to another; places do not overlap.
pub(super) fn copy<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    shape: &[usize],
    (from, from_place): (&[T], Place),
    (to, to_place): (&mut [T], Place),
) {
    let last = |place: Place| {
        place.first + shape.iter().zip(place.strides).map(|(size, stride)| (size - 1) * stride).sum::<usize>()
    };
    assert!(last(from_place) < from.len() && last(to_place) < to.len(), "a copy of {shape:?} leaves its tensor");
    let walk = Walk::new(shape, [to_place.strides, from_place.strides]);
    for_each_run(pool, &walk, &Moves { from: from.into(), to: to.into(), first: [to_place.first, from_place.first] });
}
