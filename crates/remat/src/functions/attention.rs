//! Attention of any queries to any keys.

use crate::graph::{Graph, Tensor};
use crate::{Error, ops};
use ops::AttentionMask;
use remat_tensor::{DType, stream_of_name};

/// How [`Graph::scaled_dot_product_attention`] is computed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionOptions {
    /// H: heads of queries.
    pub heads: usize,
    /// K: heads of keys and values, which divide H; query head h reads head h/(H/K). As many as of queries if not given.
    pub kv_heads: Option<usize>,
    /// Which keys each query sees: i32, where 0 hides a key, or f32, which is added to the scores; of shape [B, S], [B, T, S]
    /// or [B or 1, H or 1, T or 1, S].
    pub mask: Option<Tensor>,
    /// Whether query i sees no key behind the i-th.
    pub is_causal: bool,
    /// Probability of dropping a pair, in [0, 1). In a [`Graph::evaluation`] nothing is dropped.
    pub dropout: f32,
    /// Factor of the scores, 1/√E if not given.
    pub scale: Option<f32>,
}

impl AttentionOptions {
    /// So many heads; every key is seen, nothing is dropped.
    pub fn new(heads: usize) -> Self {
        AttentionOptions { heads, kv_heads: None, mask: None, is_causal: false, dropout: 0.0, scale: None }
    }
}

impl Graph {
    /// softmax(scale·q·kᵀ + mask)·v by head: q [B, T, H·E], k and v [B, S, K·E]; y like q. A query that sees no key gives zeros,
    /// and gradients of zero. Memory for T×S probabilities is never needed. Where rows hold packed documents, see
    /// [`Graph::causal_attention`].
    ///
    /// # Errors
    /// Operands that do not fit, heads that do not divide, a mask of another dtype or shape.
    pub fn scaled_dot_product_attention(
        &mut self,
        [q, k, v]: [Tensor; 3],
        options: AttentionOptions,
    ) -> Result<Tensor, Error> {
        let AttentionOptions { heads, kv_heads, mask, is_causal: causal, dropout, scale } = options;
        let head_size = self.ty(q)?.shape.last().checked_div(heads).unwrap_or(0).max(1);
        let kind = mask.map(|mask| Ok::<_, Error>(self.ty(mask)?.dtype)).transpose()?.map(|dtype| match dtype {
            DType::I32 => AttentionMask::Boolean,
            _ => AttentionMask::Additive,
        });
        if !(0.0..1.0).contains(&dropout) {
            return Err(Error::NotCompiledFor(format!("attention: dropout = {dropout} must be in [0, 1)")));
        }
        let dropout = if self.is_training() { dropout } else { 0.0 };
        let name = self.unique_node_name("attention");
        let op = ops::MaskedAttention {
            heads,
            kv_heads: kv_heads.unwrap_or(heads),
            scale: scale.unwrap_or(1.0 / (head_size as f32).sqrt()),
            causal,
            mask: kind,
            dropout,
            stream: stream_of_name(&name),
        };
        let mut operands = vec![q, k, v];
        operands.extend(mask);
        if dropout > 0.0 {
            operands.push(self.rng());
        }
        Ok(self.op_named(&name, op, &operands)?[0])
    }
}
