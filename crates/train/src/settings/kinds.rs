//! Choices of a run by name: the method, the format of quantised weights, the optimizer, the turns that are trained on.
//!
//! Invariant: a choice has the same name as a flag's value and in a file.

use remat_model::{Quant, TrainedBiases};
use remat_step::Accumulation;
use serde::{Deserialize, Serialize};

/// What is trained.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum MethodKind {
    /// Low-rank adapters on a frozen base.
    Lora,
    /// The same on a base whose linears are held in few bits (see --quant); embeddings and head stay as they are.
    Qlora,
    /// Every parameter.
    Full,
}

/// How the gradients of an update's micro-batches add up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum AccumulationKind {
    /// Each micro-batch's gradient begins at zero and is added to the sum once.
    Apart,
    /// Each micro-step adds onto the sum as it goes, as runs did that were begun before there was a choice.
    Running,
}

impl From<AccumulationKind> for Accumulation {
    fn from(kind: AccumulationKind) -> Self {
        match kind {
            AccumulationKind::Apart => Accumulation::Apart,
            AccumulationKind::Running => Accumulation::Running,
        }
    }
}

/// What linears of the base are held in under qlora.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum QuantKind {
    /// 4 bits in blocks of 64, with double quantisation.
    Nf4,
    /// 8 bits with a scale per row; products are of the precision chosen, as with nf4.
    Int8,
}

impl From<QuantKind> for Quant {
    fn from(kind: QuantKind) -> Self {
        match kind {
            QuantKind::Nf4 => Quant::Nf4,
            QuantKind::Int8 => Quant::Int8,
        }
    }
}

/// Which biases of the base are trained beside adapters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum BiasKind {
    /// None.
    #[default]
    None,
    /// Every bias of the model, those of norms, too.
    All,
    /// Those of the linears that have an adapter.
    LoraOnly,
}

impl From<BiasKind> for TrainedBiases {
    fn from(kind: BiasKind) -> Self {
        match kind {
            BiasKind::None => TrainedBiases::None,
            BiasKind::All => TrainedBiases::All,
            BiasKind::LoraOnly => TrainedBiases::LoraOnly,
        }
    }
}

impl From<TrainedBiases> for BiasKind {
    fn from(biases: TrainedBiases) -> Self {
        match biases {
            TrainedBiases::None => BiasKind::None,
            TrainedBiases::All => BiasKind::All,
            TrainedBiases::LoraOnly => BiasKind::LoraOnly,
        }
    }
}

/// What makes an update of gradients.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// AdamW with moments of 32 bits.
    #[default]
    Adamw,
    /// AdamW with moments of 8 bits in blocks of 256; parameters of fewer than 4096 elements keep 32 bits.
    #[value(name = "adamw8bit")]
    Adamw8bit,
}

impl From<OptimizerKind> for remat_step::MomentFormat {
    fn from(kind: OptimizerKind) -> Self {
        match kind {
            OptimizerKind::Adamw => remat_step::MomentFormat::F32,
            OptimizerKind::Adamw8bit => remat_step::MomentFormat::Blocks8,
        }
    }
}

/// Which turns of a conversation are trained on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum TrainedTurns {
    /// Every token, prompts too.
    All,
    /// The assistant's turns, and completions.
    Assistant,
    /// The assistant's last turn, and completions.
    Last,
}

impl From<TrainedTurns> for remat_data::TrainOn {
    fn from(turns: TrainedTurns) -> Self {
        match turns {
            TrainedTurns::All => remat_data::TrainOn::All,
            TrainedTurns::Assistant => remat_data::TrainOn::Assistant,
            TrainedTurns::Last => remat_data::TrainOn::Last,
        }
    }
}
