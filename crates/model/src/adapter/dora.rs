//! DoRA: the adapted weight W + scale · B·A with a norm of its own for each of its rows, m: y = x·(m / ‖W + scale · B·A‖ ⊙
//! (W + scale · B·A))ᵀ. Liu et al., *DoRA: Weight-Decomposed Low-Rank Adaptation*, 2024; PEFT's names, start and derivative.
//!
//! Invariants: the norm is a constant to the gradient, as in the paper's section 4.3 and in PEFT; m starts as the norms of
//! W's rows, so an adapter that was never trained changes nothing but the last bits. Under dropout PEFT adds what the adapter
//! changes of the dropped operand's product to the whole operand's: so it is here. m is read in f32 whatever the model's
//! precision: what training changes of it is often less than a bf16 step.

use super::lora::{low_rank_config, low_rank_pair};
use super::variant::{AdaptedLinear, AdapterTensor, BaseLinear, LoraConfig, LoraVariant, Start, Variant};
use crate::graph_builder::GraphBuilder;
use remat_formats::{AdapterConfig, TargetModules};
use remat_ir::ops::{AdaptedNorm, Add, Binary, BinaryFunction, ColumnScale, Layout, Linear};
use remat_ir::{IrError, ParameterKind, ValueId};

/// DoRA.
pub(super) const DORA: LoraVariant = LoraVariant(&Dora);

impl LoraVariant {
    /// DoRA: the rows of an adapted weight get norms of their own.
    pub const DORA: LoraVariant = DORA;
}

/// What the name of a module's norms ends with, in PEFT's file.
pub(crate) const MAGNITUDE: &str = "lora_magnitude_vector";

struct Dora;

impl Variant for Dora {
    fn name(&self) -> &'static str {
        "dora"
    }

    fn is_meant_by(&self, peft: &AdapterConfig) -> bool {
        peft.use_dora
    }

    fn to_peft(&self, config: &LoraConfig, targets: TargetModules) -> AdapterConfig {
        AdapterConfig { use_dora: true, ..low_rank_config(config, targets) }
    }

    fn tensors(&self) -> &'static [AdapterTensor] {
        &[
            AdapterTensor { kind: ParameterKind::AdapterA, start: Start::KaimingUniform },
            AdapterTensor { kind: ParameterKind::AdapterB, start: Start::Zeros },
            AdapterTensor { kind: ParameterKind::AdapterMagnitude, start: Start::RowNorms },
        ]
    }

    fn emit(&self, g: &mut GraphBuilder, linear: &AdaptedLinear<'_>) -> Result<ValueId, IrError> {
        let &AdaptedLinear { path, ref prefix, x, base, scale, dropout, fan_out, .. } = linear;
        let BaseLinear { weight, layout, bias } = base;
        let [a, b] = low_rank_pair(g, linear);
        let magnitude = format!("{prefix}.{MAGNITUDE}");
        let magnitude = g.trained_in_f32(&magnitude, ParameterKind::AdapterMagnitude, &[fan_out], true);
        let norm = g.op1(&format!("{path}.adapted_norm"), AdaptedNorm { layout, scale }, &[a, b, weight])?;
        let dropped = g.dropout(&format!("{path}.lora_dropout"), x, dropout)?;
        let product = BaseLinear { bias: None, ..base }.emit(g, path, dropped)?;
        let u = g.op1(&format!("{path}.lora_A"), Linear::plain(Layout::OutIn), &[dropped, a])?;
        let up = Linear { alpha: scale, ..Linear::plain(Layout::OutIn) };
        let delta = g.op1(&format!("{path}.lora_B"), up, &[u, b])?;
        let directed = g.op1(&format!("{path}.adapted"), Add, &[product, delta])?;
        let scaled = g.op1(&format!("{path}.scaled"), ColumnScale, &[directed, magnitude, norm])?;
        if dropped != x {
            let whole = base.emit(g, &format!("{path}.whole"), x)?;
            let rest = binary(g, &format!("{path}.rest"), BinaryFunction::Sub, [whole, product])?;
            return g.op1(&format!("{path}.decomposed"), Add, &[rest, scaled]);
        }
        match bias {
            None => Ok(scaled),
            Some(bias) => binary(g, &format!("{path}.biased"), BinaryFunction::Add, [scaled, bias]),
        }
    }
}

fn binary(
    g: &mut GraphBuilder,
    name: &str,
    function: BinaryFunction,
    [x, y]: [ValueId; 2],
) -> Result<ValueId, IrError> {
    let op = Binary::of(function, g.ty(x), g.ty(y));
    g.op1(name, op, &[x, y])
}
