//! Axes in another order. Bound by memory.
//!
//! Where the axis that is innermost in x is another than in y, squares of the two are copied at a time, so that each cache line
//! that is read is used before it leaves the cache.

use super::moves::{Place, copy};
use super::strided::{Axes, strides_of};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};
use remat_ir::axes::MOST_AXES;

/// Elements along each side of a square: a cache line of f32.
const SIDE: usize = 16;

/// y `[.., R, C]` from x, where row r of a matrix lies at stride 1 and its column c at `stride`.
struct Squares<'a, T> {
    x: &'a [T],
    y: Out<'a, T>,
    rows: usize,
    columns: usize,
    stride: usize,
}

impl<T: Copy + Send + Sync> Kernel for Squares<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let (bands, matrix) = (self.rows.div_ceil(SIDE), self.rows * self.columns);
        let (start, first_row) = (task / bands * matrix, task % bands * SIDE);
        let rows = first_row..(first_row + SIDE).min(self.rows);
        for column in (0..self.columns).step_by(SIDE) {
            for row in rows.clone() {
                for column in column..(column + SIDE).min(self.columns) {
                    let x = self.x[start + row + column * self.stride];
                    unsafe { *self.y.at(start + row * self.columns + column) = x };
                }
            }
        }
    }
}

/// Axis i of `y` is axis `permutation[i]` of x, which has shape `shape`.
pub fn transpose<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    x: &[T],
    shape: &[usize],
    permutation: &[usize],
    y: &mut [T],
) {
    assert_eq!(x.len(), y.len(), "transpose: x and y differ in size");
    let axes = shape.len();
    let exchanged = axes >= 2
        && permutation[..axes - 2].iter().enumerate().all(|(place, &axis)| place == axis)
        && permutation[axes - 2] == axes - 1;
    if exchanged {
        let [columns, rows] = [shape[axes - 2], shape[axes - 1]];
        let tasks = x.len() / (rows * columns) * rows.div_ceil(SIDE);
        return launch(pool, tasks, &Squares { x, y: y.into(), rows, columns, stride: rows });
    }
    let own = strides_of(shape);
    let (mut strides, mut turned): (Axes, Axes) = ([0; MOST_AXES], [1; MOST_AXES]);
    for (place, &axis) in permutation.iter().enumerate() {
        (strides[place], turned[place]) = (own[axis], shape[axis]);
    }
    let turned = &turned[..axes];
    copy(pool, turned, (x, Place { strides, first: 0 }), (y, Place { strides: strides_of(turned), first: 0 }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_cover_matrices_of_any_size() {
        let pool = ThreadPool::new(3);
        for [batch, rows, columns] in [[1, 1, 1], [2, 16, 17], [3, 33, 5], [1, 100, 40]] {
            let x: Vec<u32> = (0..(batch * rows * columns) as u32).collect();
            let mut y = vec![0; x.len()];
            transpose(&pool, &x, &[batch, rows, columns], &[0, 2, 1], &mut y);
            for (i, &y) in y.iter().enumerate() {
                let (b, at) = (i / (rows * columns), i % (rows * columns));
                let (column, row) = (at / rows, at % rows);
                assert_eq!(y as usize, b * rows * columns + row * columns + column);
            }
        }
    }
}
