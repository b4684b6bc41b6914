//! What the kernels of this device need of a plan. Invariant: kernels take chunks, shares and blocks from here alone, so
//! that what a plan was made and checked by is what runs.

use crate::kernels::TOKEN_BLOCK;
use remat_plan::{HeadChunk, KernelRules};

/// The rules of the CPU's kernels, at every level.
pub const RULES: KernelRules = KernelRules {
    // One cache line, one AVX-512 register.
    slot_alignment_bytes: 64,
    token_block: TOKEN_BLOCK,
    // 64 MiB of logits at most.
    head: HeadChunk { tokens: 256, narrow: 1 << 16, tokens_when_wide: 128 },
    attention_shares: 16,
};
