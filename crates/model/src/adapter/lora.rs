//! LoRA: y + scale · (x·Aᵀ)·Bᵀ, with A [r, in] and B [out, r]. Hu et al., *LoRA*, 2021; PEFT's names and start.
//!
//! Invariant: B starts at zero, so an adapter that was never trained changes nothing.

use super::adapter_start::AdapterStart;
use super::layers::Layers;
use super::origin;
use super::targets::Targets;
use super::trained_biases::TrainedBiases;
use super::variant::{
    AdaptedExperts, AdaptedLinear, AdapterTensor, EmitOfExperts, LoraConfig, LoraVariant, Start, Variant,
};
use crate::graph_builder::GraphBuilder;
use remat_formats::{AdapterConfig, TargetModules};
use remat_ir::ops::{Add, GroupedLinear, Layout, Linear};
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
            start: AdapterStart::Default,
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
        low_rank_config(config, targets)
    }

    fn tensors(&self) -> &'static [AdapterTensor] {
        &[
            AdapterTensor { kind: ParameterKind::AdapterA, start: Start::KaimingUniform },
            AdapterTensor { kind: ParameterKind::AdapterB, start: Start::Zeros },
        ]
    }

    fn may_take_from_base(&self) -> bool {
        true
    }

    fn emit(&self, g: &mut GraphBuilder, linear: &AdaptedLinear<'_>) -> Result<ValueId, IrError> {
        let &AdaptedLinear { path, x, base, scale, dropout, .. } = linear;
        let y = base.emit(g, path, x)?;
        let y = if linear.is_origin_taken { origin::emit_without(g, linear, y)? } else { y };
        let [a, b] = low_rank_pair(g, linear);
        let x = g.dropout(&format!("{path}.lora_dropout"), x, dropout)?;
        let u = g.op1(&format!("{path}.lora_A"), Linear::plain(Layout::OutIn), &[x, a])?;
        let up = Linear { alpha: scale, ..Linear::plain(Layout::OutIn) };
        let delta = g.op1(&format!("{path}.lora_B"), up, &[u, b])?;
        g.op1(&format!("{path}.adapted"), Add, &[y, delta])
    }

    fn of_experts(&self) -> Option<EmitOfExperts> {
        Some(emit_of_experts)
    }
}

/// Each expert's own A and B, on its own rows.
fn emit_of_experts(g: &mut GraphBuilder, linear: &AdaptedExperts<'_>) -> Result<ValueId, IrError> {
    let &AdaptedExperts { path, ref prefixes, ends, x, y, rank, scale, dropout, fan_in, fan_out } = linear;
    let x = g.dropout(&format!("{path}.lora_dropout"), x, dropout)?;
    let (mut down, mut up) = (vec![ends, x], Vec::new());
    for prefix in prefixes {
        let [a_name, b_name] = ["lora_A.weight", "lora_B.weight"].map(|tensor| format!("{prefix}.{tensor}"));
        down.push(g.trained(&a_name, ParameterKind::AdapterA, &[rank, fan_in], true));
        up.push(g.trained(&b_name, ParameterKind::AdapterB, &[fan_out, rank], true));
        g.gate(&a_name, &b_name);
    }
    let u = g.op1(&format!("{path}.lora_A"), GroupedLinear::plain(Layout::OutIn), &down)?;
    let grouped = GroupedLinear { alpha: scale, ..GroupedLinear::plain(Layout::OutIn) };
    let delta = g.op1(&format!("{path}.lora_B"), grouped, &[&[ends, u], &up[..]].concat())?;
    g.op1(&format!("{path}.adapted"), Add, &[y, delta])
}

/// What A and B come to as PEFT's settings.
pub(super) fn low_rank_config(config: &LoraConfig, targets: TargetModules) -> AdapterConfig {
    AdapterConfig {
        lora_dropout: f64::from(config.dropout),
        use_rslora: config.rank_stabilised,
        // The adapter that is saved of the others is one of the original base, whatever it began with.
        init_lora_weights: (config.start == AdapterStart::Gaussian).then(|| config.start.to_string()),
        ..AdapterConfig::lora(config.rank, f64::from(config.alpha), targets)
    }
}

/// A and B of a linear.
pub(super) fn low_rank_pair(g: &mut GraphBuilder, linear: &AdaptedLinear<'_>) -> [ValueId; 2] {
    let &AdaptedLinear { ref prefix, rank, fan_in, fan_out, .. } = linear;
    let [a_name, b_name] = ["lora_A.weight", "lora_B.weight"].map(|tensor| format!("{prefix}.{tensor}"));
    let a = g.trained(&a_name, ParameterKind::AdapterA, &[rank, fan_in], true);
    let b = g.trained(&b_name, ParameterKind::AdapterB, &[fan_out, rank], true);
    g.gate(&a_name, &b_name);
    [a, b]
}
