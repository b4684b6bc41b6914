//! LoRA: y + scale · (x·Aᵀ)·Bᵀ, with A [r, in] and B [out, r]. Hu et al., *LoRA*, 2021; PEFT's names and start.
//!
//! Invariant: B starts at zero, so an adapter that was never trained changes nothing.

use super::targets::Targets;
use super::variant::{AdaptedLinear, AdapterTensor, LoraConfig, LoraVariant, Start, Variant};
use crate::graph_builder::GraphBuilder;
use remat_formats::{AdapterConfig, TargetModules};
use remat_ir::ops::{Add, Layout, Linear};
use remat_ir::{IrError, ValueId};

/// LoRA.
pub(super) const LORA: LoraVariant = LoraVariant(&Lora);

struct Lora;

const A: &str = "lora_A.weight";
const B: &str = "lora_B.weight";

impl Default for LoraConfig {
    /// PEFT's defaults, on every linear of every block.
    fn default() -> Self {
        let targets = Targets::AllLinear;
        LoraConfig { rank: 8, alpha: 8.0, dropout: 0.0, rank_stabilised: false, targets, variant: LORA }
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
        &[AdapterTensor { name: A, start: Start::KaimingUniform }, AdapterTensor { name: B, start: Start::Zeros }]
    }

    fn emit(&self, g: &mut GraphBuilder, config: &LoraConfig, linear: &AdaptedLinear<'_>) -> Result<ValueId, IrError> {
        let AdaptedLinear { path, prefix, x, y, fan_in, fan_out } = linear;
        let a = g.trained(&format!("{prefix}.{A}"), &[config.rank, *fan_in], true);
        let b = g.trained(&format!("{prefix}.{B}"), &[*fan_out, config.rank], true);
        let x = g.dropout(&format!("{path}.lora_dropout"), *x, config.dropout)?;
        let u = g.op1(&format!("{path}.lora_A"), Linear::plain(Layout::OutIn), &[x, a])?;
        let up = Linear { alpha: config.scale(), ..Linear::plain(Layout::OutIn) };
        let delta = g.op1(&format!("{path}.lora_B"), up, &[u, b])?;
        g.op1(&format!("{path}.adapted"), Add, &[*y, delta])
    }
}
