//! Gradient of the embedding table: a scatter of sums.
//!
//! Shapes: dy [N, D], ids [N], dtable [V, D]. Tasks own columns and walk the tokens in order, so that a repeated token
//! always sums in the same order; an id outside the table is passed over. Bound by memory.

use super::column_sums::STRIP;
use super::embedding::row_of;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

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
                let Some(row) = row_of(id, self.rows) else { continue };
                let (source, target) = (n * self.size + from, row * self.size + from);
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
    assert_eq!(dy.len(), ids.len() * size, "embedding_grad: dy is not [{}, {size}]", ids.len());
    let kernel = Scatter { size, ids, dy, accumulate, rows, dtable: Out::new(dtable) };
    launch(pool, size.div_ceil(STRIP), &kernel);
}
