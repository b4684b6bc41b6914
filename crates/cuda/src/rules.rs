//! What the kernels of this device need of a plan. Invariant: recipes take chunks and blocks from here alone.

use remat_plan::{HeadChunk, KernelRules};

/// The rules of the CUDA kernels, on every card.
pub const RULES: KernelRules = KernelRules {
    // What the driver aligns allocations to, and more than any vector load needs.
    slot_alignment_bytes: 256,
    // As TOKEN_BLOCK in kernels/column_sums.cuh.
    token_block: 64,
    head: HeadChunk { tokens: 256, narrow: 1 << 16, tokens_when_wide: 128 },
    // dk and dv are made in a pass of their own; what both passes share is a number for each query.
    attention_shares: 0,
};
