//! Some elements along each axis. Bound by memory.

use super::moves::{Place, copy};
use super::strided::strides_of;
use crate::pool::ThreadPool;

/// `y`, of shape `shape`, is every `steps`-th element of x, of `x_shape`, from `starts` on.
pub fn slice<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    x: &[T],
    x_shape: &[usize],
    (starts, steps): (&[usize], &[usize]),
    y: &mut [T],
    shape: &[usize],
) {
    let (from, to) = (stepped(x_shape, starts, |axis| steps[axis]), Place { strides: strides_of(shape), first: 0 });
    copy(pool, shape, (x, from), (y, to));
}

/// Where elements of a tensor are: from `starts` on, so many apart along each axis.
pub(super) fn stepped(shape: &[usize], starts: &[usize], step: impl Fn(usize) -> usize) -> Place {
    let (own, mut place) = (strides_of(shape), Place { strides: strides_of(shape), first: 0 });
    for (axis, start) in starts.iter().enumerate() {
        place.strides[axis] = own[axis] * step(axis);
        place.first += own[axis] * start;
    }
    place
}
