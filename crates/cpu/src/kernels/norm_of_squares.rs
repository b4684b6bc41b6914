//! The norm of all gradients together, of their blocks' sums: a few thousand numbers at most, one after the other.

use remat_ir::ops::{self, number_of};

/// The norm of sums that are halves of f64.
pub fn norm_of_squares(op: &ops::NormOfSquares, words: &[i32]) -> f32 {
    let sums: Vec<f64> = words.as_chunks::<2>().0.iter().map(|&words| number_of(words)).collect();
    op.norm(&sums) as f32
}
