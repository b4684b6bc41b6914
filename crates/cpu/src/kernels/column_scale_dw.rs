//! Gradient of one factor for each column: `dw[O] = sum over rows of dy[N, O] * x[N, O] / norm[O]`. Bound by memory.

use super::column_sums::{Term, column_sums};
use crate::element::{Element, Lanes};
use crate::pool::ThreadPool;
use crate::simd::Simd;

struct FactorTerm<'a, T> {
    dy: &'a [T],
    x: &'a [T],
    norm: &'a [f32],
}

impl<T: Element> Term for FactorTerm<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, n: usize, d: usize, lanes: usize) -> S::V {
        unsafe {
            let at = n * self.norm.len() + d;
            let product =
                S::mul(T::load::<S>(self.dy.as_ptr().add(at), lanes), T::load::<S>(self.x.as_ptr().add(at), lanes));
            S::div(product, f32::load::<S>(self.norm.as_ptr().add(d), lanes))
        }
    }
}

/// `dw = sum over rows of dy * x / norm`, onto what `dw` holds if `accumulate`.
pub fn column_scale_dw<T: Element>(
    pool: &ThreadPool,
    dy: &[T],
    x: &[T],
    norm: &[f32],
    accumulate: bool,
    dw: &mut [f32],
) {
    let cols = dw.len();
    assert_eq!([x.len(), norm.len()], [dy.len(), cols], "column_scale_dw: sizes differ");
    assert!(cols > 0 && dy.len().is_multiple_of(cols), "column_scale_dw: dy is not rows of [{cols}]");
    column_sums(pool, dy.len() / cols, &FactorTerm { dy, x, norm }, accumulate, dw);
}
