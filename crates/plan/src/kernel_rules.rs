//! What a device's kernels need beside their operands, and where their sums may be interrupted: data, so that the compiler
//! and the checker know it without knowing a device.
//!
//! Invariant: a plan carries the rules that it was made by, and a device runs no plan of other rules than its own. Look
//! next at `check::rules` for what is proved of a plan with them.

use remat_ir::{Op, OpDef, Type, Workspace};

/// The rules of one kind of device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelRules {
    /// Alignment of every slot of the arena, in bytes; a power of two.
    pub slot_alignment_bytes: usize,
    /// Sums over tokens may be interrupted after any multiple of this many rows and be continued without a changed bit.
    pub token_block: usize,
    /// How many tokens have their logits in workspace at a time.
    pub head: HeadChunk,
    /// Shares that the gradient of attention is cut into at least, if it has as many query heads; each has workspace.
    pub attention_shares: usize,
}

/// Tokens whose logits exist at one time. Weights are packed once for each chunk, so a longer one is faster, as long as
/// its logits stay small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadChunk {
    /// With a vocabulary of at most `narrow`.
    pub tokens: usize,
    /// The largest vocabulary that is not wide.
    pub narrow: usize,
    /// With a wider one.
    pub tokens_when_wide: usize,
}

impl KernelRules {
    /// Rules for tests and for planning without a device: one cache line of alignment, sums over tokens in blocks of 512,
    /// 64 MiB of logits at most, sixteen shares.
    pub const GENERIC: KernelRules = KernelRules {
        slot_alignment_bytes: 64,
        token_block: 512,
        head: HeadChunk { tokens: 256, narrow: 1 << 16, tokens_when_wide: 128 },
        attention_shares: 16,
    };

    /// Tokens whose logits exist at one time, for a vocabulary of this size.
    pub const fn head_tokens(&self, vocab: usize) -> usize {
        if vocab <= self.head.narrow { self.head.tokens } else { self.head.tokens_when_wide }
    }

    /// How the gradient of attention over `batch` rows of queries and keys is cut.
    pub fn shares(
        &self,
        batch: usize,
        [queries, keys]: [usize; 2],
        heads: usize,
        kv_heads: usize,
        head_size: usize,
    ) -> AttentionShares {
        let (group, rows) = (heads / kv_heads, batch * kv_heads);
        let enough = |&parts: &usize| group.is_multiple_of(parts) && rows * parts >= self.attention_shares;
        let parts = (1..=group).find(enough).unwrap_or(group);
        AttentionShares { kv_heads: rows, parts, share: queries * (head_size + 1) + keys * 2 * head_size }
    }

    /// Bytes of arena that an op's kernel needs while it runs, beside operands and results of these types.
    pub fn workspace_bytes(&self, op: &Op, inputs: &[&Type]) -> usize {
        match op.workspace(inputs) {
            Workspace::None => 0,
            Workspace::Logits { tokens, vocab } => tokens.min(self.head_tokens(vocab)) * vocab * size_of::<f32>(),
            Workspace::HeadGradients { batch, queries, keys, heads, kv_heads, head_size } => {
                self.shares(batch, [queries, keys], heads, kv_heads, head_size).workspace_len() * size_of::<f32>()
            }
        }
    }
}

/// How the gradient of attention is cut where dk and dv are added up in workspace: each share has some query heads of one
/// kv head. It follows the shape alone, since a sum's order follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttentionShares {
    /// Rows of the batch times kv heads.
    pub kv_heads: usize,
    /// Shares of one kv head; divides the query heads that read it.
    pub parts: usize,
    /// Length in f32 of one share's workspace: dq of one head `[T, E]`, dk and dv `[S, E]`, and a value per query.
    share: usize,
}

impl AttentionShares {
    /// Number of shares.
    pub fn tasks(&self) -> usize {
        self.kv_heads * self.parts
    }

    /// Length in f32 of one share's workspace.
    pub fn task_len(&self) -> usize {
        self.share
    }

    /// Length in f32 of the whole workspace.
    pub fn workspace_len(&self) -> usize {
        self.tasks() * self.share
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_ir::ops::{LinearCrossEntropy, LinearCrossEntropyGrad};
    use remat_tensor::DType;

    #[test]
    fn the_head_has_logits_of_a_chunk_or_of_all_tokens_where_they_are_fewer() {
        let rules = KernelRules::GENERIC;
        let bytes = |op: Op, batch: usize, tokens: usize, vocab: usize| {
            let (h, w) = (Type::new(DType::F32, [batch, tokens, 8]), Type::new(DType::F32, [vocab, 8]));
            let targets = Type::new(DType::I32, [batch, tokens]);
            rules.workspace_bytes(&op, &[&h, &w, &targets])
        };
        let grad = LinearCrossEntropyGrad { dh: true, dw: true, ..LinearCrossEntropyGrad::NONE };
        assert_eq!(bytes(LinearCrossEntropy::PLAIN.into(), 2, 500, 30), 256 * 30 * 4);
        assert_eq!(bytes(grad.into(), 2, 500, 30), 256 * 30 * 4);
        assert_eq!(bytes(LinearCrossEntropy::PLAIN.into(), 1, 5, 30), 5 * 30 * 4);
        assert_eq!(bytes(LinearCrossEntropy::PLAIN.into(), 2, 500, 100_000), 128 * 100_000 * 4);
    }

    #[test]
    fn shares_follow_the_shape() {
        let of = |batch, heads, kv_heads| KernelRules::GENERIC.shares(batch, [10, 10], heads, kv_heads, 4);
        let cut = |shares: AttentionShares| (shares.kv_heads, shares.parts, shares.workspace_len());
        assert_eq!(cut(of(1, 12, 12)), (12, 1, 12 * 130));
        assert_eq!(cut(of(1, 32, 4)), (4, 4, 16 * 130));
        assert_eq!(cut(of(1, 6, 2)), (2, 3, 6 * 130));
    }
}
