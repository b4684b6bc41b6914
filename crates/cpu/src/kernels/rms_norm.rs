//! RMS norm: `y = x * rstd * w`, or `* (1 + w)`, with `rstd = 1 / sqrt(mean(x^2) + eps)`, row by row.
//!
//! Shapes: x, y [N, D], w [D], rstd [N]. A row's sum has one partial per lane, folded by halves; it is the
//! work of one task. Bound by memory.

use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

struct Forward<'a, T, W> {
    x: &'a [T],
    weight: &'a [W],
    /// What w is added to: 0 or 1.
    offset: f32,
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
                    let factor = S::add(S::splat(self.offset), W::load::<S>(self.weight.as_ptr().add(d), lanes));
                    let y = S::mul(scaled, factor);
                    T::store::<S>(self.y.at(n * size + d), y, lanes);
                });
            }
        }
    }
}

/// Normalises each row of `x`; also writes each row's `rstd`. With `unit_offset` the factor is 1 + w.
pub fn rms_norm<T: Element, W: Element>(
    pool: &ThreadPool,
    x: &[T],
    weight: &[W],
    unit_offset: bool,
    eps: f32,
    y: &mut [T],
    rstd: &mut [f32],
) {
    let (rows, size) = (rstd.len(), weight.len());
    assert_eq!([x.len(), y.len()], [rows * size; 2], "rms_norm: x and y are not [{rows}, {size}]");
    let offset = f32::from(u8::from(unit_offset));
    let kernel = Forward { x, weight, offset, eps, y: Out::new(y), rstd: Out::new(rstd), rows };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}

#[cfg(test)]
mod tests {
    use super::super::rms_norm_dw::rms_norm_dw;
    use super::super::rms_norm_grad::rms_norm_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn forward_and_gradients_match_f64_on_ragged_sizes() {
        let sizes = [(1, 1), (5, 7), (33, 70), (300, 16), (3, 129)];
        for ((rows, size), unit_offset) in sizes.into_iter().flat_map(|size| [(size, false), (size, true)]) {
            let offset = f64::from(u8::from(unit_offset));
            let (x, w, dy) = (normals(rows * size, 1), normals(size, 2), normals(rows * size, 3));
            let eps = 1e-5;
            let mut want = [vec![0.0; rows * size], vec![0.0; rows], vec![0.0; rows * size], vec![0.0; size]];
            for n in 0..rows {
                let at = |v: &[f32], d: usize| f64::from(v[n * size + d]);
                let mean = (0..size).map(|d| at(&x, d).powi(2)).sum::<f64>() / size as f64;
                let rstd = 1.0 / (mean + eps).sqrt();
                want[1][n] = rstd;
                let dot =
                    (0..size).map(|d| at(&dy, d) * (offset + f64::from(w[d])) * at(&x, d)).sum::<f64>() / size as f64;
                for d in 0..size {
                    want[0][n * size + d] = at(&x, d) * rstd * (offset + f64::from(w[d]));
                    want[2][n * size + d] =
                        rstd * (at(&dy, d) * (offset + f64::from(w[d])) - at(&x, d) * rstd * rstd * dot);
                    want[3][d] += at(&dy, d) * at(&x, d) * rstd;
                }
            }
            every_level(
                |pool| {
                    let mut out = want.clone().map(|w| vec![f32::NAN; w.len()]);
                    let [y, rstd, dx, dw] = &mut out;
                    rms_norm(pool, &x, &w, unit_offset, eps as f32, y, rstd);
                    rms_norm_grad(pool, &dy, &x, &w, unit_offset, rstd, dx);
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
