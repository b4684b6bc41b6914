//! A value before, behind and between the elements of each axis. Bound by memory.

use super::moves::{Place, copy};
use super::slice::stepped;
use super::strided::{Axes, strides_of};
use crate::pool::ThreadPool;
use remat_ir::axes::MOST_AXES;

/// `y`, of shape `shape`, is x of `x_shape`, with its first element at `low` and `between` others between neighbours; all else is
/// `value`.
pub fn pad<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    x: &[T],
    x_shape: &[usize],
    value: T,
    (low, between): (&[usize], &[usize]),
    y: &mut [T],
    shape: &[usize],
) {
    let (whole, at) = (Place { strides: strides_of(shape), first: 0 }, stepped(shape, low, |axis| between[axis] + 1));
    if x.len() != y.len() {
        let nowhere: Axes = [0; MOST_AXES];
        copy(pool, shape, (&[value], Place { strides: nowhere, first: 0 }), (&mut *y, whole));
    }
    copy(pool, x_shape, (x, Place { strides: strides_of(x_shape), first: 0 }), (y, at));
}
