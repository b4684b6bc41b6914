//! One factor for each column: `y[N, O] = x[N, O] * w[O] / norm[O]`. Bound by memory.

use super::pointwise::rows_per_task;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, for_lanes, launch};

struct Scaled<'a, T> {
    x: View<'a, T>,
    w: &'a [f32],
    norm: &'a [f32],
    y: Out<'a, T>,
}

impl<T: Element> Kernel for Scaled<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let size = self.w.len();
        let rows = rows_per_task(size);
        for n in task * rows..((task + 1) * rows).min(self.x.len() / size) {
            unsafe {
                for_lanes!(S, size, |d, lanes| {
                    let w = f32::load::<S>(self.w.as_ptr().add(d), lanes);
                    let factor = S::div(w, f32::load::<S>(self.norm.as_ptr().add(d), lanes));
                    let x = T::load::<S>(self.x.at(n * size + d), lanes);
                    T::store::<S>(self.y.at(n * size + d), S::mul(x, factor), lanes);
                });
            }
        }
    }
}

/// `y = x * (w / norm)`, column by column; `y` may be `x`, in place.
pub fn column_scale<'a, T: Element>(
    pool: &ThreadPool,
    x: impl Into<View<'a, T>>,
    w: &'a [f32],
    norm: &'a [f32],
    y: impl Into<Out<'a, T>>,
) {
    let (x, y) = (x.into(), y.into());
    assert_eq!([x.len(), norm.len()], [y.len(), w.len()], "column_scale: sizes differ");
    assert!(!w.is_empty() && x.len().is_multiple_of(w.len()), "column_scale: x is not rows of [{}]", w.len());
    let tasks = (x.len() / w.len()).div_ceil(rows_per_task(w.len()));
    launch(pool, tasks, &Scaled { x, w, norm, y });
}
