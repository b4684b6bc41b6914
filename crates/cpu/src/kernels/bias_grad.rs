//! Gradient of a bias: the sum over tokens, column by column. Bound by reading dy once.

use super::column_sums::{Term, column_sums};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::simd::Simd;

/// Rows that lie `stride` elements apart.
pub(super) struct Rows<'a, T> {
    pub data: &'a [T],
    pub stride: usize,
}

impl<T: Element> Term for Rows<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, n: usize, d: usize, lanes: usize) -> S::V {
        unsafe { T::load::<S>(self.data.as_ptr().add(n * self.stride + d), lanes) }
    }
}

/// `db[O] = sum over rows of dy[N, O]`, onto what `db` holds if `accumulate`.
pub fn bias_grad<Y: Element>(pool: &ThreadPool, dy: &[Y], accumulate: bool, db: &mut [f32]) {
    let cols = db.len();
    assert!(cols > 0 && dy.len().is_multiple_of(cols), "bias_grad: dy ({}) is not rows of [{cols}]", dy.len());
    column_sums(pool, dy.len() / cols, &Rows { data: dy, stride: cols }, accumulate, db);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn bias_grad_sums_rows_and_continues_at_blocks_without_changing_bits() {
        let (rows, cols) = (700, 70);
        let dy = normals(rows * cols, 1);
        let want: Vec<f64> = (0..cols).map(|d| (0..rows).map(|n| f64::from(dy[n * cols + d])).sum()).collect();
        every_level(
            |pool| {
                let mut whole = vec![f32::NAN; cols];
                bias_grad(pool, &dy, false, &mut whole);
                let (head, tail) = dy.split_at(super::super::TOKEN_BLOCK * cols);
                let mut parts = vec![f32::NAN; cols];
                bias_grad(pool, head, false, &mut parts);
                bias_grad(pool, tail, true, &mut parts);
                assert_eq!(whole, parts);
                vec![whole]
            },
            |level, got| assert_near(level, &got[0], &want, &vec![rows as f64; cols], 1e-6),
        );
    }
}
