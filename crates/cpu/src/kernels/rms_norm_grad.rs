//! Gradient of RMS norm's input, row by row; a row is the work of one task. Bound by memory.

use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

struct Backward<'a, T, W> {
    dy: &'a [T],
    x: &'a [T],
    weight: &'a [W],
    /// What w is added to: 0 or 1.
    offset: f32,
    rstd: &'a [f32],
    dx: Out<'a, T>,
}

impl<T: Element, W: Element> Kernel for Backward<'_, T, W> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let size = self.weight.len();
        let rows = rows_per_task(size);
        for n in task * rows..((task + 1) * rows).min(self.rstd.len()) {
            unsafe {
                let (x, dy) = (self.x.as_ptr().add(n * size), self.dy.as_ptr().add(n * size));
                let rstd = self.rstd[n];
                let mut dots = S::splat(0.0);
                for_lanes!(S, size, |d, lanes| {
                    let factor = S::add(S::splat(self.offset), W::load::<S>(self.weight.as_ptr().add(d), lanes));
                    let g = S::mul(T::load::<S>(dy.add(d), lanes), factor);
                    dots = S::fma(g, T::load::<S>(x.add(d), lanes), dots);
                });
                let along = -(S::sum(dots) / size as f32 * rstd * rstd);
                for_lanes!(S, size, |d, lanes| {
                    let factor = S::add(S::splat(self.offset), W::load::<S>(self.weight.as_ptr().add(d), lanes));
                    let g = S::mul(T::load::<S>(dy.add(d), lanes), factor);
                    let inner = S::fma(T::load::<S>(x.add(d), lanes), S::splat(along), g);
                    T::store::<S>(self.dx.at(n * size + d), S::mul(inner, S::splat(rstd)), lanes);
                });
            }
        }
    }
}

/// `dx = rstd * (dy w - x * rstd^2 * mean(dy w x))`, with 1 + w for w if `unit_offset`.
pub fn rms_norm_grad<T: Element, W: Element>(
    pool: &ThreadPool,
    dy: &[T],
    x: &[T],
    weight: &[W],
    unit_offset: bool,
    rstd: &[f32],
    dx: &mut [T],
) {
    let (rows, size) = (rstd.len(), weight.len());
    assert_eq!([dy.len(), x.len(), dx.len()], [rows * size; 3], "rms_norm_grad: not [{rows}, {size}]");
    let offset = f32::from(u8::from(unit_offset));
    let kernel = Backward { dy, x, weight, offset, rstd, dx: Out::new(dx) };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}
