//! RMS norm: `y = x * rstd * w`, `rstd = 1 / sqrt(mean(x^2) + eps)`, row by row; its input and weight gradients.
//!
//! Shapes: x, y, dx, dy [N, D], w, dw [D], rstd [N]. A row's sum has one partial per lane, folded by halves; it is the
//! work of one task. Bound by memory.

use super::column_sums::{Term, column_sums};
use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

struct Forward<'a, T, W> {
    x: &'a [T],
    weight: &'a [W],
    eps: f32,
    y: Out<'a, T>,
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
                let mut squares = S::splat(0.0);
                for_lanes!(S, size, |d, lanes| {
                    let v = T::load::<S>(x.add(d), lanes);
                    squares = S::fma(v, v, squares);
                });
                let rstd = 1.0 / (S::sum(squares) / size as f32 + self.eps).sqrt();
                *self.rstd.at(n) = rstd;
                for_lanes!(S, size, |d, lanes| {
                    let scaled = S::mul(T::load::<S>(x.add(d), lanes), S::splat(rstd));
                    let y = S::mul(scaled, W::load::<S>(self.weight.as_ptr().add(d), lanes));
                    T::store::<S>(self.y.at(n * size + d), y, lanes);
                });
            }
        }
    }
}

/// Normalises each row of `x`; also writes each row's `rstd`.
pub fn rms_norm<T: Element, W: Element>(
    pool: &ThreadPool,
    x: &[T],
    weight: &[W],
    eps: f32,
    y: &mut [T],
    rstd: &mut [f32],
) {
    let (rows, size) = (rstd.len(), weight.len());
    assert_eq!([x.len(), y.len()], [rows * size; 2], "rms_norm: x and y are not [{rows}, {size}]");
    let kernel = Forward { x, weight, eps, y: Out::new(y), rstd: Out::new(rstd), rows };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}

struct Backward<'a, T, W> {
    dy: &'a [T],
    x: &'a [T],
    weight: &'a [W],
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
                    let g = S::mul(T::load::<S>(dy.add(d), lanes), W::load::<S>(self.weight.as_ptr().add(d), lanes));
                    dots = S::fma(g, T::load::<S>(x.add(d), lanes), dots);
                });
                let along = -(S::sum(dots) / size as f32 * rstd * rstd);
                for_lanes!(S, size, |d, lanes| {
                    let g = S::mul(T::load::<S>(dy.add(d), lanes), W::load::<S>(self.weight.as_ptr().add(d), lanes));
                    let inner = S::fma(T::load::<S>(x.add(d), lanes), S::splat(along), g);
                    T::store::<S>(self.dx.at(n * size + d), S::mul(inner, S::splat(rstd)), lanes);
                });
            }
        }
    }
}

/// `dx = rstd * (dy w - x * rstd^2 * mean(dy w x))`.
pub fn rms_norm_grad<T: Element, W: Element>(
    pool: &ThreadPool,
    dy: &[T],
    x: &[T],
    weight: &[W],
    rstd: &[f32],
    dx: &mut [T],
) {
    let (rows, size) = (rstd.len(), weight.len());
    assert_eq!([dy.len(), x.len(), dx.len()], [rows * size; 3], "rms_norm_grad: not [{rows}, {size}]");
    let kernel = Backward { dy, x, weight, rstd, dx: Out::new(dx) };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}

struct WeightTerm<'a, T> {
    dy: &'a [T],
    x: &'a [T],
    rstd: &'a [f32],
    size: usize,
}

impl<T: Element> Term for WeightTerm<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, n: usize, d: usize, lanes: usize) -> S::V {
        unsafe {
            let at = n * self.size + d;
            let normal = S::mul(T::load::<S>(self.x.as_ptr().add(at), lanes), S::splat(*self.rstd.get_unchecked(n)));
            S::mul(T::load::<S>(self.dy.as_ptr().add(at), lanes), normal)
        }
    }
}

/// `dw = sum over rows of dy * x * rstd`, onto what `dw` holds if `accumulate`.
pub fn rms_norm_dw<T: Element>(pool: &ThreadPool, dy: &[T], x: &[T], rstd: &[f32], accumulate: bool, dw: &mut [f32]) {
    let (rows, size) = (rstd.len(), dw.len());
    assert_eq!([dy.len(), x.len()], [rows * size; 2], "rms_norm_dw: dy and x are not [{rows}, {size}]");
    column_sums(pool, rows, &WeightTerm { dy, x, rstd, size }, accumulate, dw);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn forward_and_gradients_match_f64_on_ragged_sizes() {
        for (rows, size) in [(1, 1), (5, 7), (33, 70), (300, 16), (3, 129)] {
            let (x, w, dy) = (normals(rows * size, 1), normals(size, 2), normals(rows * size, 3));
            let eps = 1e-5;
            let mut want = [vec![0.0; rows * size], vec![0.0; rows], vec![0.0; rows * size], vec![0.0; size]];
            for n in 0..rows {
                let at = |v: &[f32], d: usize| f64::from(v[n * size + d]);
                let mean = (0..size).map(|d| at(&x, d).powi(2)).sum::<f64>() / size as f64;
                let rstd = 1.0 / (mean + eps).sqrt();
                want[1][n] = rstd;
                let dot = (0..size).map(|d| at(&dy, d) * f64::from(w[d]) * at(&x, d)).sum::<f64>() / size as f64;
                for d in 0..size {
                    want[0][n * size + d] = at(&x, d) * rstd * f64::from(w[d]);
                    want[2][n * size + d] = rstd * (at(&dy, d) * f64::from(w[d]) - at(&x, d) * rstd * rstd * dot);
                    want[3][d] += at(&dy, d) * at(&x, d) * rstd;
                }
            }
            every_level(
                |pool| {
                    let mut out = want.clone().map(|w| vec![f32::NAN; w.len()]);
                    let [y, rstd, dx, dw] = &mut out;
                    rms_norm(pool, &x, &w, eps as f32, y, rstd);
                    rms_norm_grad(pool, &dy, &x, &w, rstd, dx);
                    rms_norm_dw(pool, &dy, &x, rstd, false, dw);
                    out.to_vec()
                },
                |level, got| {
                    for (i, want) in want.iter().enumerate() {
                        let name = ["y", "rstd", "dx", "dw"][i];
                        // rstd multiplies everything: for a nearly zero row it is large.
                        let scale = vec![10.0 * got[1].iter().fold(1.0, |m: f32, x| m.max(*x)) as f64; want.len()];
                        let rows = if i == 3 { rows as f64 } else { 1.0 };
                        assert_near(&format!("{level} [{rows}, {size}] {name}"), &got[i], want, &scale, 1e-6 * rows);
                    }
                },
            );
        }
    }
}
