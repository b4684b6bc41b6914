//! Token embedding: a gather of rows.
//!
//! Shapes: table [V, D], ids [N], y [N, D]. Ids are checked where batches are made; one outside the table has no
//! meaning and gives a row of NaN. Bound by memory.

use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// The row of an id, if the table has it.
#[inline(always)]
pub(super) fn row_of(id: i32, rows: usize) -> Option<usize> {
    usize::try_from(id).ok().filter(|&row| row < rows)
}

struct Gather<'a, T, Y> {
    size: usize,
    ids: &'a [i32],
    table: &'a [T],
    y: Out<'a, Y>,
}

impl<T: Element, Y: Element> Kernel for Gather<'_, T, Y> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let rows = rows_per_task(self.size);
        for n in task * rows..((task + 1) * rows).min(self.ids.len()) {
            let from = row_of(self.ids[n], self.table.len() / self.size.max(1)).map(|row| row * self.size);
            for_lanes!(S, self.size, |d, lanes| {
                unsafe {
                    let row = match from {
                        Some(from) => T::load::<S>(self.table.as_ptr().add(from + d), lanes),
                        None => S::splat(f32::NAN),
                    };
                    Y::store::<S>(self.y.at(n * self.size + d), row, lanes);
                }
            });
        }
    }
}

/// `y[n] = table[ids[n]]`, rows of `size` elements.
pub fn embedding<T: Element, Y: Element>(pool: &ThreadPool, size: usize, ids: &[i32], table: &[T], y: &mut [Y]) {
    assert_eq!(y.len(), ids.len() * size, "embedding: y is not [{}, {size}]", ids.len());
    launch(pool, ids.len().div_ceil(rows_per_task(size)), &Gather { size, ids, table, y: Out::new(y) });
}

#[cfg(test)]
mod tests {
    use super::super::embedding_grad::embedding_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn gathers_rows_and_scatters_sums() {
        let (rows, size) = (11, 70);
        let ids = [3, 0, 10, 3, 3, 7, 0];
        let (table, dy, before) = (normals(rows * size, 1), normals(ids.len() * size, 2), normals(rows * size, 3));
        for accumulate in [false, true] {
            let mut want: Vec<f64> = before.iter().map(|&x| if accumulate { f64::from(x) } else { 0.0 }).collect();
            for (n, id) in ids.iter().enumerate() {
                for d in 0..size {
                    want[*id as usize * size + d] += f64::from(dy[n * size + d]);
                }
            }
            every_level(
                |pool| {
                    let mut y = vec![f32::NAN; ids.len() * size];
                    embedding(pool, size, &ids, &table, &mut y);
                    let mut dtable = if accumulate { before.clone() } else { vec![f32::NAN; rows * size] };
                    embedding_grad(pool, size, &ids, &dy, accumulate, &mut dtable);
                    vec![y, dtable]
                },
                |level, got| {
                    for (n, id) in ids.iter().enumerate() {
                        let row = *id as usize * size;
                        assert_eq!(got[0][n * size..(n + 1) * size], table[row..row + size]);
                    }
                    assert_near(level, &got[1], &want, &vec![8.0; want.len()], 2e-7);
                },
            );
        }
    }

    #[test]
    fn an_id_outside_the_table_gives_nan_and_no_gradient() {
        let pool = ThreadPool::new(1);
        let mut y = [0.0f32; 4];
        embedding(&pool, 2, &[5, -1], &[1.0f32; 4], &mut y);
        assert!(y.iter().all(|y| y.is_nan()));
        let mut dtable = [3.0f32; 4];
        embedding_grad(&pool, 2, &[5, -1], &[1.0f32; 4], true, &mut dtable);
        assert_eq!(dtable, [3.0; 4]);
    }
}
