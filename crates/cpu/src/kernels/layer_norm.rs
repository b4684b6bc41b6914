//! Layer norm: `y = (x - mean) * rstd * w + b`, row by row.
//!
//! Shapes: x, y [N, D], w, b [D], mean, rstd [N]. The variance is summed from the centred row, so that
//! a large mean cancels nothing. A row is the work of one task. Bound by memory.

use super::padded::keep;
use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

struct Forward<'a, T, W> {
    x: &'a [T],
    weight: &'a [W],
    bias: &'a [W],
    eps: f32,
    y: Out<'a, T>,
    mean: Out<'a, f32>,
    rstd: Out<'a, f32>,
    rows: usize,
}

impl<T: Element, W: Element> Kernel for Forward<'_, T, W> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let size = self.weight.len();
        let rows = rows_per_task(size);
        for n in task * rows..((task + 1) * rows).min(self.rows) {
            unsafe {
                let x = self.x.as_ptr().add(n * size);
                let mut sum = S::splat(0.0);
                for_lanes!(S, size, |d, lanes| { sum = S::add(sum, T::load::<S>(x.add(d), lanes)) });
                let mean = S::sum(sum) / size as f32;
                let mut squares = S::splat(0.0);
                for_lanes!(S, size, |d, lanes| {
                    let centred = S::sub(T::load::<S>(x.add(d), lanes), S::splat(mean));
                    // Lanes outside the row hold -mean; they must not count.
                    squares = S::fma(centred, keep::<S>(centred, lanes), squares);
                });
                let rstd = 1.0 / (S::sum(squares) / size as f32 + self.eps).sqrt();
                *self.mean.at(n) = mean;
                *self.rstd.at(n) = rstd;
                for_lanes!(S, size, |d, lanes| {
                    let normal = S::mul(S::sub(T::load::<S>(x.add(d), lanes), S::splat(mean)), S::splat(rstd));
                    let bias = W::load::<S>(self.bias.as_ptr().add(d), lanes);
                    let y = S::fma(normal, W::load::<S>(self.weight.as_ptr().add(d), lanes), bias);
                    T::store::<S>(self.y.at(n * size + d), y, lanes);
                });
            }
        }
    }
}

/// Normalises each row of `x`; also writes each row's `mean` and `rstd`.
pub fn layer_norm<T: Element, W: Element>(
    pool: &ThreadPool,
    x: &[T],
    weight: &[W],
    bias: &[W],
    eps: f32,
    y: &mut [T],
    mean: &mut [f32],
    rstd: &mut [f32],
) {
    let (rows, size) = (rstd.len(), weight.len());
    assert_eq!([x.len(), y.len()], [rows * size; 2], "layer_norm: x and y are not [{rows}, {size}]");
    assert_eq!([bias.len(), mean.len()], [size, rows], "layer_norm: bias is not [{size}] or mean not [{rows}]");
    let kernel = Forward { x, weight, bias, eps, y: Out::new(y), mean: Out::new(mean), rstd: Out::new(rstd), rows };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}

#[cfg(test)]
mod tests {
    use super::super::layer_norm_dw::layer_norm_dw;
    use super::super::layer_norm_grad::layer_norm_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn forward_and_gradients_match_f64_on_ragged_sizes() {
        for (rows, size) in [(1, 2), (5, 7), (33, 70), (300, 16), (3, 129)] {
            // A mean far from zero, which a one-pass variance would not survive.
            let x: Vec<f32> = normals(rows * size, 1).iter().map(|x| x + 3.0).collect();
            let (w, b, dy) = (normals(size, 2), normals(size, 4), normals(rows * size, 3));
            let eps = 1e-2;
            let lens = [rows * size, rows, rows, rows * size, size, size];
            let mut want = lens.map(|len| vec![0.0; len]);
            for n in 0..rows {
                let at = |v: &[f32], d: usize| f64::from(v[n * size + d]);
                let average = |f: &dyn Fn(usize) -> f64| (0..size).map(f).sum::<f64>() / size as f64;
                let mean = average(&|d| at(&x, d));
                let rstd = 1.0 / (average(&|d| (at(&x, d) - mean).powi(2)) + eps).sqrt();
                (want[1][n], want[2][n]) = (mean, rstd);
                let normal = |d: usize| (at(&x, d) - mean) * rstd;
                let g = |d: usize| at(&dy, d) * f64::from(w[d]);
                let (mean_g, dot) = (average(&g), average(&|d| g(d) * normal(d)));
                for d in 0..size {
                    want[0][n * size + d] = normal(d) * f64::from(w[d]) + f64::from(b[d]);
                    want[3][n * size + d] = rstd * (g(d) - mean_g - normal(d) * dot);
                    want[4][d] += at(&dy, d) * normal(d);
                    want[5][d] += at(&dy, d);
                }
            }
            every_level(
                |pool| {
                    let mut out = lens.map(|len| vec![f32::NAN; len]);
                    let [y, mean, rstd, dx, dw, db] = &mut out;
                    layer_norm(pool, &x, &w, &b, eps as f32, y, mean, rstd);
                    layer_norm_grad(pool, &dy, &x, &w, mean, rstd, dx);
                    layer_norm_dw(pool, &dy, &x, mean, rstd, false, dw, db);
                    out.to_vec()
                },
                |level, got| {
                    for (i, want) in want.iter().enumerate() {
                        let name = ["y", "mean", "rstd", "dx", "dw", "db"][i];
                        let scale = vec![100.0 * if i > 3 { rows as f64 } else { 1.0 }; want.len()];
                        assert_near(&format!("{level} [{rows}, {size}] {name}"), &got[i], want, &scale, 1e-6);
                    }
                },
            );
        }
    }
}
