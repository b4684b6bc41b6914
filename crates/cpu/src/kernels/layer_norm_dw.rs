//! Gradient of layer norm's parameters: sums over tokens, column by column. Bound by memory.

use super::column_sums::{Term, column_sums};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::simd::Simd;

struct WeightTerm<'a, T> {
    dy: &'a [T],
    x: &'a [T],
    mean: &'a [f32],
    rstd: &'a [f32],
    size: usize,
}

impl<T: Element> Term for WeightTerm<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, n: usize, d: usize, lanes: usize) -> S::V {
        unsafe {
            let at = n * self.size + d;
            let centred = S::sub(T::load::<S>(self.x.as_ptr().add(at), lanes), S::splat(*self.mean.get_unchecked(n)));
            let normal = S::mul(centred, S::splat(*self.rstd.get_unchecked(n)));
            S::mul(T::load::<S>(self.dy.as_ptr().add(at), lanes), normal)
        }
    }
}

/// `dw = sum over rows of dy * (x - mean) * rstd` and `db = sum over rows of dy`, onto what they hold if `accumulate`.
pub fn layer_norm_dw<T: Element>(
    pool: &ThreadPool,
    dy: &[T],
    x: &[T],
    mean: &[f32],
    rstd: &[f32],
    accumulate: bool,
    dw: &mut [f32],
    db: &mut [f32],
) {
    let (rows, size) = (rstd.len(), dw.len());
    assert_eq!([dy.len(), x.len()], [rows * size; 2], "layer_norm_dw: dy and x are not [{rows}, {size}]");
    assert_eq!([mean.len(), db.len()], [rows, size], "layer_norm_dw: mean is not [{rows}] or db not [{size}]");
    column_sums(pool, rows, &WeightTerm { dy, x, mean, rstd, size }, accumulate, dw);
    super::bias_grad::bias_grad(pool, dy, accumulate, db);
}
