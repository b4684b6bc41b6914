//! Columns of the identity. Bound by memory.

use super::broadcast::broadcast;
use crate::element::Element;
use crate::pool::ThreadPool;

/// `y[chosen[j], j] = 1`, and 0 elsewhere; y is `[V, n]` with n the number of chosen rows.
pub fn selection<T: Element>(pool: &ThreadPool, chosen: &[usize], y: &mut [T]) {
    broadcast(pool, 0.0, y);
    for (column, row) in chosen.iter().enumerate() {
        y[row * chosen.len() + column] = T::from_f32(1.0);
    }
}
