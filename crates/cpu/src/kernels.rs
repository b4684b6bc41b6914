//! One file per op, named as the op in the IR. A kernel is a plain function over slices, sizes and a pool: it decides
//! nothing, allocates nothing, and its result does not depend on the number of threads.
//!
//! Shapes are row-major; N = B * T tokens. Sizes that do not fit are a defect of the caller and assert.

pub mod adamw;
pub mod add;
pub mod attention;
pub mod attention_grad;
mod column_sums;
pub mod dropout;
pub mod embedding;
pub mod gelu;
pub mod gemm;
pub mod layer_norm;
pub mod linear;
pub mod linear_cross_entropy;
mod pointwise;
pub mod rms_norm;
pub mod rope;
pub mod swiglu;

/// Sums over tokens (weight gradients, norm gradients) may be cut into calls at multiples of this many tokens without
/// changing a bit: every kernel's own reduction block divides it.
pub const TOKEN_BLOCK: usize = 512;
