//! Norm of all gradients together. Bound by reading them once.

use super::block_sums::{BlockSum, Square, block_sum};
use crate::pool::ThreadPool;

/// The sum of squares of one tensor, in f64.
pub fn sum_squares(pool: &ThreadPool, x: &[f32]) -> f64 {
    block_sum::<Square>(pool, x)
}

/// The sum of squares of a tensor that comes one piece after the other.
pub(crate) type SquareSum = BlockSum<Square>;

/// The root of the sum of squares of all tensors, added in order in f64.
pub fn grad_norm<'a>(pool: &ThreadPool, gradients: impl IntoIterator<Item = &'a [f32]>) -> f32 {
    gradients.into_iter().map(|gradient| sum_squares(pool, gradient)).sum::<f64>().sqrt() as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_norm_spans_all_tensors_and_does_not_overflow_in_f32() {
        let pool = ThreadPool::new(2);
        assert_eq!(grad_norm(&pool, [&[3.0f32][..], &[], &[0.0, 4.0]]), 5.0);
        assert_eq!(grad_norm(&pool, [&[3e30f32][..], &[4e30]]), 5e30);
        assert!(grad_norm(&pool, [&[1.0f32, f32::NAN][..]]).is_nan());
    }
}
