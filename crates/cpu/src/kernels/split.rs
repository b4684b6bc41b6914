//! Copies between a tensor and its pieces along the last axis. Bound by memory.

use super::pointwise::rows_per_task;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};

/// Copies `rows` rows of `width` elements between two row-major tensors at given columns.
pub(super) struct CopyColumns<'a, T> {
    pub rows: usize,
    pub width: usize,
    pub from: &'a [T],
    /// Row length of `from` and its first column.
    pub from_at: (usize, usize),
    pub to: Out<'a, T>,
    /// Row length of `to` and its first column.
    pub to_at: (usize, usize),
}

impl<T: Copy + Send + Sync> Kernel for CopyColumns<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let rows = rows_per_task(self.width);
        for row in task * rows..((task + 1) * rows).min(self.rows) {
            let from = row * self.from_at.0 + self.from_at.1;
            let to = self.to.at(row * self.to_at.0 + self.to_at.1);
            let row = &self.from[from..from + self.width];
            unsafe { std::ptr::copy_nonoverlapping(row.as_ptr(), to, row.len()) };
        }
    }
}

impl<T: Copy + Send + Sync> CopyColumns<'_, T> {
    pub(super) fn run(&self, pool: &ThreadPool) {
        launch(pool, self.rows.div_ceil(rows_per_task(self.width)), self);
    }
}

/// Copies the columns from `column` on of each row of `x` (rows of `x_width`) into `piece` (rows of `width`).
///
/// `split` is one call per piece; the element type is copied, not computed with.
pub fn split<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    x: &[T],
    x_width: usize,
    column: usize,
    width: usize,
    piece: &mut [T],
) {
    assert!(width > 0 && column + width <= x_width, "split: columns {column} to {} of {x_width}", column + width);
    let rows = piece.len() / width;
    assert_eq!([x.len(), piece.len()], [rows * x_width, rows * width], "split: x and the piece differ in rows");
    CopyColumns { rows, width, from: x, from_at: (x_width, column), to: piece.into(), to_at: (width, 0) }.run(pool);
}

#[cfg(test)]
mod tests {
    use super::super::concat::concat;
    use super::*;
    use crate::testing::normals;

    #[test]
    fn pieces_join_to_the_whole_again() {
        let (rows, sizes) = (700, [1usize, 17, 3]);
        let width = sizes.iter().sum();
        let x = normals(rows * width, 1);
        for threads in 1..=3 {
            let pool = ThreadPool::new(threads);
            let (mut joined, mut column) = (vec![f32::NAN; x.len()], 0);
            for size in sizes {
                let mut piece = vec![f32::NAN; rows * size];
                split(&pool, &x, width, column, size, &mut piece);
                assert_eq!(piece[size], x[width + column]);
                concat(&pool, &piece, size, column, width, &mut joined);
                column += size;
            }
            assert_eq!(joined, x);
        }
    }
}
