//! Next-token cross entropy: the sum of −log p(target) over the tokens whose target is not −100.
//!
//! Reads i32 `targets` [B, T], the token that follows each. Invariant: the sum over all micro-batches of an update is divided
//! once by all their trained tokens, so that accumulation does not change what is computed.

use super::definition::{Definition, LossOperands, Metrics, Objective};
use crate::graph_builder::GraphBuilder;
use remat_ir::ops::{LinearCrossEntropy, Sum};
use remat_ir::{IrError, Type, ValueId};
use remat_tensor::DType;

/// Next-token cross entropy.
pub const NEXT_TOKEN: Objective = Objective(&NextToken);

struct NextToken;

impl Definition for NextToken {
    fn name(&self) -> &'static str {
        "next_token"
    }

    fn emit(&self, b: &mut GraphBuilder, operands: &LossOperands<'_>) -> Result<ValueId, IrError> {
        let &LossOperands { hidden, head, head_bias, low_rank, softcap, prefix } = operands;
        let tokens = b.ty(hidden).shape[..2].to_vec();
        let targets = b.input(&format!("{prefix}targets"), Type::new(DType::I32, tokens));
        let op = LinearCrossEntropy { softcap, bias: head_bias.is_some(), low_rank: low_rank.is_some() };
        let factors = low_rank.into_iter().flat_map(|(u, up)| [u, up]);
        let operands: Vec<ValueId> =
            [hidden, head].into_iter().chain(head_bias).chain(factors).chain([targets]).collect();
        let per_token = b.op1("nll", op, &operands)?;
        b.op1("loss", Sum, &[per_token])
    }

    fn dloss(&self, trained_tokens: usize) -> f32 {
        (1.0 / trained_tokens as f64) as f32
    }

    fn metrics(&self, loss_sum: f64, trained_tokens: usize) -> Metrics {
        let loss = loss_sum / trained_tokens as f64;
        Metrics { loss, perplexity: loss.exp() }
    }
}
