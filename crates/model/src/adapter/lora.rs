//! LoRA: y + scale · (x·Aᵀ)·Bᵀ, with A [r, in] and B [out, r]. Hu et al., *LoRA*, 2021; PEFT's names and start.
//!
//! Invariant: B starts at zero, so an adapter that was never trained changes nothing.

use super::layers::Layers;
use super::targets::Targets;
use super::trained_biases::TrainedBiases;
use super::variant::{AdaptedLinear, AdapterTensor, LoraConfig, LoraVariant, Start, Variant};
use crate::graph_builder::GraphBuilder;
use remat_formats::{AdapterConfig, TargetModules};
use remat_ir::ops::{Add, Layout, Linear};
use remat_ir::{IrError, ParameterKind, ValueId};

/// LoRA.
pub(super) const LORA: LoraVariant = LoraVariant(&Lora);

struct Lora;

impl Default for LoraConfig {
    /// PEFT's defaults, on every linear of every block.
    fn default() -> Self {
        let targets = Targets::AllLinear;
        LoraConfig {
            rank: 8,
            alpha: 8.0,
            dropout: 0.0,
            rank_stabilised: false,
            targets,
            exclude: None,
            layers: Layers::default(),
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            bias: TrainedBiases::None,
            modules_to_save: Vec::new(),
            ensure_weight_tying: false,
            trained_tokens: None,
            variant: LORA,
        }
    }
}

impl Variant for Lora {
    fn name(&self) -> &'static str {
        "lora"
    }

    fn is_meant_by(&self, peft: &AdapterConfig) -> bool {
        !peft.use_dora
    }

    fn to_peft(&self, config: &LoraConfig, targets: TargetModules) -> AdapterConfig {
        AdapterConfig {
            lora_dropout: f64::from(config.dropout),
            use_rslora: config.rank_stabilised,
            ..AdapterConfig::lora(config.rank, f64::from(config.alpha), targets)
        }
    }

    fn tensors(&self) -> &'static [AdapterTensor] {
        &[
            AdapterTensor { kind: ParameterKind::AdapterA, start: Start::KaimingUniform },
            AdapterTensor { kind: ParameterKind::AdapterB, start: Start::Zeros },
        ]
    }

    fn emit(&self, g: &mut GraphBuilder, linear: &AdaptedLinear<'_>) -> Result<ValueId, IrError> {
        let &AdaptedLinear { path, ref prefix, x, y, rank, scale, dropout, fan_in, fan_out } = linear;
        let [a_name, b_name] = ["lora_A.weight", "lora_B.weight"].map(|tensor| format!("{prefix}.{tensor}"));
        let a = g.trained(&a_name, ParameterKind::AdapterA, &[rank, fan_in], true);
        let b = g.trained(&b_name, ParameterKind::AdapterB, &[fan_out, rank], true);
        g.gate(&a_name, &b_name);
        let x = g.dropout(&format!("{path}.lora_dropout"), x, dropout)?;
        let u = g.op1(&format!("{path}.lora_A"), Linear::plain(Layout::OutIn), &[x, a])?;
        let up = Linear { alpha: scale, ..Linear::plain(Layout::OutIn) };
        let delta = g.op1(&format!("{path}.lora_B"), up, &[u, b])?;
        g.op1(&format!("{path}.adapted"), Add, &[y, delta])
    }
}
