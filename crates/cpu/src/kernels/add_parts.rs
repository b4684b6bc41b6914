//! Parts of a gradient onto its sum, in the order of the ranks that computed them. Bound by memory.

use super::accumulate::accumulate;
use crate::pool::ThreadPool;

/// `sum += part` for each part: rows of `own` elements, of which those from `first` on are the sum's.
pub fn add_parts(pool: &ThreadPool, parts: &[f32], own: usize, first: usize, sum: &mut [f32]) {
    for part in parts.chunks_exact(own) {
        accumulate(pool, &part[first..first + sum.len()], sum);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_one_after_the_other() {
        let pool = ThreadPool::new(2);
        // In another order the small one would be lost, or not.
        let parts = [9.0, 1.0, 1e8, 9.0, 9.0, 1e8, -1e8, 9.0, 9.0, 2.0, 1.0, 9.0];
        let mut sum = [0.5, 0.0];
        add_parts(&pool, &parts, 4, 1, &mut sum);
        assert_eq!(sum, [((0.5f32 + 1.0) + 1e8) + 2.0, (1e8f32 + -1e8) + 1.0]);
    }
}
