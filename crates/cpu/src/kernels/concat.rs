//! Joins pieces along the last axis, one call per piece. Bound by memory.

use super::split::CopyColumns;
use crate::pool::ThreadPool;

/// Copies `piece` (rows of `width`) into the columns from `column` on of each row of `y` (rows of `y_width`).
pub fn concat<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    piece: &[T],
    width: usize,
    column: usize,
    y_width: usize,
    y: &mut [T],
) {
    assert!(width > 0 && column + width <= y_width, "concat: columns {column} to {} of {y_width}", column + width);
    let rows = piece.len() / width;
    assert_eq!([piece.len(), y.len()], [rows * width, rows * y_width], "concat: the piece and y differ in rows");
    CopyColumns { rows, width, from: piece, from_at: (width, 0), to: y.into(), to_at: (y_width, column) }.run(pool);
}
