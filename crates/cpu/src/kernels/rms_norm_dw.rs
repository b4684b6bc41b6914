//! Gradient of RMS norm's parameters: sums over tokens, column by column. Bound by memory.

use super::column_sums::{Term, column_sums};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::simd::Simd;

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
