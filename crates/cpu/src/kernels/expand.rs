//! Broadcasting to a shape. Bound by memory.

use super::moves::{Place, copy};
use super::strided::{strides_of, strides_within};
use crate::pool::ThreadPool;

/// `y`, of shape `shape`, is x of `x_shape`, repeated.
pub fn expand<T: Copy + Send + Sync>(pool: &ThreadPool, x: &[T], x_shape: &[usize], y: &mut [T], shape: &[usize]) {
    let from = Place { strides: strides_within(x_shape, shape), first: 0 };
    copy(pool, shape, (x, from), (y, Place { strides: strides_of(shape), first: 0 }));
}
