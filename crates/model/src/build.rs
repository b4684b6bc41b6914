//! The graphs that are made of a model: training, evaluation, and logits.
//!
//! Invariant: they name the same parameters with the same storage, so that one device holds them once. Look next at
//! `decoder` for what is computed, and at `generation` for the graphs with caches.

use crate::decoder::{self, Hidden};
use crate::graph_builder::Built;
use crate::model_builder::{Base, BatchShape, ModelBuilder};
use crate::objective::{LossOperands, NEXT_TOKEN};
use crate::stored::StoredQuantised;
use crate::{Method, ModelError, Precision};
use remat_formats::ModelConfig;
use remat_ir::{Graph, Training, ValueId};
use remat_tensor::DType;

/// A forward graph without loss: output `logits`, f32 [B, T, V].
#[derive(Debug, Clone)]
pub struct Inference {
    /// The forward computation.
    pub graph: Graph,
}

/// A forward graph with its loss, without dropout and without gradients: output `loss`, the sum of the negative
/// log-likelihoods, f32 [1]. Weights and states have the names and storage they have in training; inputs are
/// `evaluation.ids`, `.positions`, `.segment_start` and `.targets`, so that its shape may differ from the training's.
#[derive(Debug, Clone)]
pub struct Evaluation {
    /// The forward computation.
    pub graph: Graph,
}

/// What the names of an evaluation's inputs begin with.
const EVALUATION: &str = "evaluation.";

/// The forward graph with its loss, from a configuration alone: what planning needs of a model, without its weights.
///
/// # Errors
/// As [`crate::Model::training`].
pub fn training(
    config: &ModelConfig,
    precision: Precision,
    method: &Method,
    shape: BatchShape,
) -> Result<Training, ModelError> {
    training_of(Base { config, precision, stored: &StoredQuantised::default(), noise: 0.0 }, method, shape)
}

pub(crate) fn training_of(base: Base<'_>, method: &Method, shape: BatchShape) -> Result<Training, ModelError> {
    let mut m = ModelBuilder::new(base, Some(method), shape, true, "")?;
    let loss = loss(base.config, &mut m, "")?;
    let dloss = m.b.scalar("dloss", DType::F32);
    let Built { graph, parameters, random } = m.b.finish();
    Ok(Training { graph, loss, dloss, parameters, wanted: Vec::new(), random })
}

pub(crate) fn evaluation(base: Base<'_>, method: Option<&Method>, shape: BatchShape) -> Result<Evaluation, ModelError> {
    let mut m = ModelBuilder::new(base, method, shape, false, EVALUATION)?;
    loss(base.config, &mut m, EVALUATION)?;
    Ok(Evaluation { graph: m.b.finish().graph })
}

pub(crate) fn inference(base: Base<'_>, method: &Method, shape: BatchShape) -> Result<Inference, ModelError> {
    let mut m = ModelBuilder::new(base, Some(method), shape, false, "")?;
    decoder::logits(base.config, &mut m)?;
    Ok(Inference { graph: m.b.finish().graph })
}

/// The decoder with the objective's loss as output `loss`.
fn loss(config: &ModelConfig, m: &mut ModelBuilder<'_>, prefix: &str) -> Result<ValueId, ModelError> {
    let Hidden { hidden, head, head_bias, low_rank } = decoder::forward(config, m)?;
    let softcap = config.logits_softcap.map(|cap| cap as f32);
    let loss = NEXT_TOKEN.emit(&mut m.b, &LossOperands { hidden, head, head_bias, low_rank, softcap, prefix })?;
    m.b.output(loss);
    m.all_settings_used()?;
    Ok(loss)
}
