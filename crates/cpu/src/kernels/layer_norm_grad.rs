//! Gradient of layer norm's input, row by row; a row is the work of one task. Bound by memory.

use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

struct Backward<'a, T, W> {
    dy: &'a [T],
    x: &'a [T],
    weight: &'a [W],
    mean: &'a [f32],
    rstd: &'a [f32],
    dx: Out<'a, T>,
}

impl<T: Element, W: Element> Backward<'_, T, W> {
    /// `dy w` and the normalised x at one place of a row; both zero outside the row, since dy is.
    #[inline(always)]
    unsafe fn terms<S: Simd>(&self, n: usize, d: usize, lanes: usize) -> (S::V, S::V) {
        unsafe {
            let at = n * self.weight.len() + d;
            let weight = W::load::<S>(self.weight.as_ptr().add(d), lanes);
            let g = S::mul(T::load::<S>(self.dy.as_ptr().add(at), lanes), weight);
            let centred = S::sub(T::load::<S>(self.x.as_ptr().add(at), lanes), S::splat(self.mean[n]));
            (g, S::mul(centred, S::splat(self.rstd[n])))
        }
    }
}

impl<T: Element, W: Element> Kernel for Backward<'_, T, W> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let size = self.weight.len();
        let rows = rows_per_task(size);
        for n in task * rows..((task + 1) * rows).min(self.rstd.len()) {
            unsafe {
                let (mut sum, mut dots) = (S::splat(0.0), S::splat(0.0));
                for_lanes!(S, size, |d, lanes| {
                    let (g, normal) = self.terms::<S>(n, d, lanes);
                    sum = S::add(sum, g);
                    dots = S::fma(g, normal, dots);
                });
                let mean_g = S::splat(S::sum(sum) / size as f32);
                let along = S::splat(-(S::sum(dots) / size as f32));
                for_lanes!(S, size, |d, lanes| {
                    let (g, normal) = self.terms::<S>(n, d, lanes);
                    let inner = S::fma(normal, along, S::sub(g, mean_g));
                    T::store::<S>(self.dx.at(n * size + d), S::mul(inner, S::splat(self.rstd[n])), lanes);
                });
            }
        }
    }
}

/// With `g = dy w` and `h = (x - mean) rstd`: `dx = rstd * (g - mean(g) - h * mean(g h))`.
pub fn layer_norm_grad<T: Element, W: Element>(
    pool: &ThreadPool,
    dy: &[T],
    x: &[T],
    weight: &[W],
    mean: &[f32],
    rstd: &[f32],
    dx: &mut [T],
) {
    let (rows, size) = (rstd.len(), weight.len());
    assert_eq!([dy.len(), x.len(), dx.len()], [rows * size; 3], "layer_norm_grad: not [{rows}, {size}]");
    assert_eq!(mean.len(), rows, "layer_norm_grad: mean is not [{rows}]");
    let kernel = Backward { dy, x, weight, mean, rstd, dx: Out::new(dx) };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}
