//! Sum of all elements. Bound by memory.

use super::block_sums::{Itself, block_sum};
use crate::pool::ThreadPool;

/// The sum of all elements, in f64.
pub fn sum(pool: &ThreadPool, x: &[f32]) -> f64 {
    block_sum::<Itself>(pool, x)
}

#[cfg(test)]
mod tests {
    use super::super::grad_norm::sum_squares;
    use super::*;
    use crate::testing::normals;

    #[test]
    fn sums_are_exact_to_f64_and_the_same_for_all_threads_and_levels() {
        for len in [0, 1, 70, 4097, 100_000] {
            let x = normals(len, 1);
            let plain: f64 = x.iter().map(|&x| f64::from(x)).sum();
            let squares: f64 = x.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
            let results: Vec<[f64; 2]> =
                crate::testing::pools(&[1, 2, 3]).iter().map(|pool| [sum(pool, &x), sum_squares(pool, &x)]).collect();
            let limit = 1e-13 * squares.max(1.0);
            assert!((results[0][0] - plain).abs() <= limit && (results[0][1] - squares).abs() <= limit);
            assert!(results.iter().all(|sums| sums.map(f64::to_bits) == results[0].map(f64::to_bits)));
        }
    }
}
