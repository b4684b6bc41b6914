//! Settings that no plan can bring into memory: refused by arithmetic, before a graph is built that has to be as large.
//!
//! Method: what a rank makes of parameters, and what a micro-batch makes of the residual stream, are bounds from below that
//! need no graph. Invariant: a bound is never above what some plan needs, and only what is large and far above the limit is
//! refused here; everything else gets a plan that says by how much it does not fit.

use crate::plan::limit_owner::LimitOwner;
use crate::plan::planning::Limit;
use crate::{TrainConfig, TrainError};
use remat_model::{BatchShape, Method, Model, Precision, Targets};

/// How often the limit a bound has to be before there is no use in a plan.
const FAR: usize = 2;

/// A graph for less than this is made in no time.
const LARGE_BYTES: usize = 4 << 30;

/// Bytes of an adapter's element at least: itself and its gradient in 32 bits, two moments in 8.
const ADAPTER_ELEMENT_BYTES: usize = 10;

/// What no process can address, whatever a setting allows; and where the system does not say what it has.
const NO_PROCESS: Limit = Limit { bytes: 1 << 47, whose: LimitOwner::Process };

/// Refuses a rank whose adapters alone are out of reach. Each linear has the residual stream on one side at least. Of a
/// pattern it is known that some module has its rank, and then of no module that it has the rank of all.
pub(crate) fn refuse_rank(model: &Model, method: &Method, limit: Option<Limit>) -> Result<(), TrainError> {
    let Some(lora) = method.adapter() else { return Ok(()) };
    let bytes_of = |rank: usize, modules: usize| {
        let elements = rank.saturating_mul(model.config().hidden_size).saturating_mul(modules);
        elements.saturating_mul(ADAPTER_ELEMENT_BYTES)
    };
    for &(_, rank) in &lora.rank_pattern {
        check("rank-pattern", rank, "adapters of that rank", bytes_of(rank, 1), limit)?;
    }
    if !lora.rank_pattern.is_empty() {
        return Ok(());
    }
    let is_everywhere = lora.targets == Targets::AllLinear && lora.exclude.is_none() && lora.layers.only.is_none();
    let modules = if is_everywhere { model.linear_names().len() } else { 1 };
    check("rank", lora.rank, "adapters of that rank", bytes_of(lora.rank, modules), limit)
}

/// Refuses a micro-batch whose residual stream alone is out of reach: in backward a block holds it and its gradient.
pub(crate) fn refuse_tokens(
    config: &TrainConfig,
    model: &Model,
    shape: BatchShape,
    limit: Option<Limit>,
) -> Result<(), TrainError> {
    let element_bytes = match model.precision() {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    };
    let elements = shape.batch.saturating_mul(shape.seq_len).saturating_mul(model.config().hidden_size);
    let needed_bytes = elements.saturating_mul(2 * element_bytes);
    check("batch-size", config.batch_size, "the activations between two blocks", needed_bytes, limit)
}

fn check(
    key: &'static str,
    value: usize,
    what: &'static str,
    needed_bytes: usize,
    limit: Option<Limit>,
) -> Result<(), TrainError> {
    let Limit { bytes, whose } = limit.filter(|limit| limit.bytes < NO_PROCESS.bytes).unwrap_or(NO_PROCESS);
    if needed_bytes < LARGE_BYTES || needed_bytes / FAR <= bytes {
        return Ok(());
    }
    Err(TrainError::OutOfReach { key, value, what, needed_bytes, limit_bytes: bytes, whose })
}
