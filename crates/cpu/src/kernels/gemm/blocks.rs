//! Sizes of the blocks that products are made of.

/// Length of one chain of f32 multiply-adds; a panel of two vectors this deep stays in the second-level cache.
pub(crate) const K_BLOCK: usize = 256;
/// Words between packed rows of A: K_BLOCK and one cache line.
pub(crate) const ROW_STRIDE: usize = K_BLOCK + 16;
