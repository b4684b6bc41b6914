//! A value of zeros. Bound by memory.

use super::broadcast::broadcast;
use crate::element::Element;
use crate::pool::ThreadPool;

/// `y[i] = 0`.
pub fn zeros<T: Element>(pool: &ThreadPool, y: &mut [T]) {
    broadcast(pool, 0.0, y);
}
