//! Copies of rows, which lie one behind the other. Bound by memory.

use super::write_rows::write_rows;
use crate::pool::ThreadPool;
use crate::shared::View;

/// `rows = x`, where `x` is the part that is taken.
pub fn slice_rows<T: Send + Sync>(pool: &ThreadPool, x: &[T], rows: &mut [T]) {
    assert_eq!(x.len(), rows.len(), "slice_rows: x and the rows differ in size");
    write_rows(pool, View::from(x), 0, &[], rows);
}
