//! Token embedding: gather of rows, and its gradient, a scatter of sums.
//!
//! Shapes: table [V, D], ids [N], y [N, D]. The gradient's tasks own columns and walk the tokens in order, so that a
//! repeated token sums in the same order always. Bound by memory.

use super::column_sums::STRIP;
use super::pointwise::rows_per_task;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

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
            let from = self.ids[n] as usize * self.size;
            for_lanes!(S, self.size, |d, lanes| {
                unsafe {
                    let row = T::load::<S>(self.table.as_ptr().add(from + d), lanes);
                    Y::store::<S>(self.y.at(n * self.size + d), row, lanes);
                }
            });
        }
    }
}

fn check(ids: &[i32], rows: usize) {
    // Ids come from data; whoever builds a batch checks them against the vocabulary and reports the file and line.
    assert!(
        ids.iter().all(|&id| usize::try_from(id).is_ok_and(|id| id < rows)),
        "embedding: an id lies outside the table's {rows} rows"
    );
}

/// `y[n] = table[ids[n]]`, rows of `size` elements.
pub fn embedding<T: Element, Y: Element>(pool: &ThreadPool, size: usize, ids: &[i32], table: &[T], y: &mut [Y]) {
    check(ids, table.len() / size.max(1));
    assert_eq!(y.len(), ids.len() * size, "embedding: y is not [{}, {size}]", ids.len());
    launch(pool, ids.len().div_ceil(rows_per_task(size)), &Gather { size, ids, table, y: Out::new(y) });
}

struct Scatter<'a, Y> {
    size: usize,
    ids: &'a [i32],
    dy: &'a [Y],
    accumulate: bool,
    rows: usize,
    dtable: Out<'a, f32>,
}

impl<Y: Element> Kernel for Scatter<'_, Y> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let from = task * STRIP;
        let width = STRIP.min(self.size - from);
        unsafe {
            if !self.accumulate {
                for row in 0..self.rows {
                    self.dtable.at(row * self.size + from).write_bytes(0, width);
                }
            }
            for (n, &id) in self.ids.iter().enumerate() {
                let (source, target) = (n * self.size + from, id as usize * self.size + from);
                for_lanes!(S, width, |d, lanes| {
                    let at = self.dtable.at(target + d);
                    let term = Y::load::<S>(self.dy.as_ptr().add(source + d), lanes);
                    f32::store::<S>(at, S::add(f32::load::<S>(at, lanes), term), lanes);
                });
            }
        }
    }
}

/// `dtable[ids[n]] += dy[n]` over all n in order; the table starts from zero unless `accumulate`.
pub fn embedding_grad<Y: Element>(
    pool: &ThreadPool,
    size: usize,
    ids: &[i32],
    dy: &[Y],
    accumulate: bool,
    dtable: &mut [f32],
) {
    let rows = dtable.len() / size.max(1);
    check(ids, rows);
    assert_eq!(dy.len(), ids.len() * size, "embedding_grad: dy is not [{}, {size}]", ids.len());
    let kernel = Scatter { size, ids, dy, accumulate, rows, dtable: Out::new(dtable) };
    launch(pool, size.div_ceil(STRIP), &kernel);
}

#[cfg(test)]
mod tests {
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
    #[should_panic(expected = "outside the table")]
    fn an_id_outside_the_table_is_caught() {
        embedding(&ThreadPool::new(1), 2, &[5], &[0.0f32; 4], &mut [0.0f32; 2]);
    }
}
