//! What an objective says about itself.

use crate::adapter::HeadFactors;
use crate::graph_builder::GraphBuilder;
use remat_ir::{IrError, ValueId};
use std::fmt;

/// An objective: one of those that `objective` lists.
#[derive(Clone, Copy)]
pub struct Objective(pub(super) &'static dyn Definition);

impl fmt::Debug for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl Objective {
    /// Emits the loss of a micro-batch, f32 [1]: a sum, which its cotangent divides. Inputs that it reads beside the
    /// decoder's are declared on the way.
    pub(crate) fn emit(self, b: &mut GraphBuilder, operands: &LossOperands<'_>) -> Result<ValueId, IrError> {
        self.0.emit(b, operands)
    }

    /// The cotangent of the loss of each micro-batch of an update that trains so many tokens.
    pub fn dloss(self, trained_tokens: usize) -> f32 {
        self.0.dloss(trained_tokens)
    }

    /// What is told of a summed loss over so many tokens.
    pub fn metrics(self, loss_sum: f64, trained_tokens: usize) -> Metrics {
        self.0.metrics(loss_sum, trained_tokens)
    }
}

/// What is told of a loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Metrics {
    /// What is minimised, per trained token.
    pub loss: f64,
    /// Its exponential, where it is a negative log-likelihood in nats.
    pub perplexity: f64,
}

/// What the loss is computed from.
pub(crate) struct LossOperands<'a> {
    /// The last hidden state [B, T, D].
    pub hidden: ValueId,
    /// The head's weight [V, D].
    pub head: ValueId,
    /// The head's bias [V], where it has one.
    pub head_bias: Option<ValueId>,
    /// What an adapter adds to the logits: u [B, T, r] times up [V, r].
    pub low_rank: Option<HeadFactors>,
    /// What logits stay within.
    pub softcap: Option<f32>,
    /// What names of inputs begin with.
    pub prefix: &'a str,
}

/// One objective's own file answers these.
pub(crate) trait Definition: Sync {
    fn name(&self) -> &'static str;
    fn emit(&self, b: &mut GraphBuilder, operands: &LossOperands<'_>) -> Result<ValueId, IrError>;
    fn dloss(&self, trained_tokens: usize) -> f32;
    fn metrics(&self, loss_sum: f64, trained_tokens: usize) -> Metrics;
}
