//! Gradient of `gather`: slices are added onto those that they were taken from. Look at `scatter.rs` for how.

use super::scatter::{Numbers, scatter};
use crate::element::Element;
use crate::pool::ThreadPool;

/// One number for each row, in all blocks.
struct OfRows<'a>(&'a [i32]);

impl Numbers for OfRows<'_> {
    const BY_COLUMN: bool = false;
    #[inline(always)]
    fn of(&self, _outer: usize, row: usize, _column: usize) -> usize {
        self.0[row] as usize
    }
}

/// dx `[outer, size, inner]` from dy `[outer, ids, inner]`; ids are in `0..size`.
pub fn gather_grad<T: Element>(pool: &ThreadPool, sizes: [usize; 3], dy: &[T], ids: &[i32], dx: &mut [T]) {
    assert_eq!(dy.len(), sizes[0] * ids.len() * sizes[2], "gather_grad: dy has another size");
    scatter(pool, sizes, &OfRows(ids), dy, dx);
}
