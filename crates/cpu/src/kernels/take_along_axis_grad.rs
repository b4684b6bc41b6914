//! Gradient of `take_along_axis`: elements are added onto those that they were taken from. Look at `scatter.rs` for how.

use super::scatter::{Numbers, scatter};
use crate::element::Element;
use crate::pool::ThreadPool;

/// A number for each element.
struct OfElements<'a> {
    ids: &'a [i32],
    rows: usize,
    inner: usize,
}

impl Numbers for OfElements<'_> {
    const BY_COLUMN: bool = true;
    #[inline(always)]
    fn of(&self, outer: usize, row: usize, column: usize) -> usize {
        self.ids[(outer * self.rows + row) * self.inner + column] as usize
    }
}

/// dx `[outer, size, inner]` from dy of the shape of ids `[outer, taken, inner]`; ids are in `0..size`.
pub fn take_along_axis_grad<T: Element>(pool: &ThreadPool, sizes: [usize; 3], dy: &[T], ids: &[i32], dx: &mut [T]) {
    let [outer, _, inner] = sizes;
    assert_eq!(dy.len(), ids.len(), "take_along_axis_grad: dy has another size than ids");
    scatter(pool, sizes, &OfElements { ids, rows: ids.len() / (outer * inner), inner }, dy, dx);
}
