//! The settings that all low-rank adapters share, and what a variant of them says about itself.
//!
//! Invariant: nothing outside a variant's own file knows its tensors, how they start or what they compute. Look next at
//! `lora` for the first of them, and at `adapter` for the table.

use super::adapter_start::AdapterStart;
use super::layers::Layers;
use super::patterns::ModulePattern;
use super::targets::Targets;
use super::trained_biases::TrainedBiases;
use crate::ModelError;
use crate::graph_builder::GraphBuilder;
use remat_formats::{AdapterConfig, SettingName, TargetModules, TokenIndices};
use remat_ir::ops::{Layout, Linear};
use remat_ir::{IrError, ParameterKind, ValueId};
use std::fmt;

/// Settings of low-rank adapters.
#[derive(Debug, Clone, PartialEq)]
pub struct LoraConfig {
    /// Width of the bottleneck.
    pub rank: usize,
    /// Numerator of the scale.
    pub alpha: f32,
    /// Dropout on the adapter's input.
    pub dropout: f32,
    /// Scale α/√r instead of α/r (Kalajdzievski, *rsLoRA*, 2023).
    pub rank_stabilised: bool,
    /// Which modules.
    pub targets: Targets,
    /// Which of them are left out after all.
    pub exclude: Option<Targets>,
    /// In which layers.
    pub layers: Layers,
    /// Ranks that differ, by the ends of module names.
    pub rank_pattern: ModulePattern<usize>,
    /// Alphas that differ, in the same way.
    pub alpha_pattern: ModulePattern<f32>,
    /// Which biases of the base are trained, too.
    pub bias: TrainedBiases,
    /// Modules of the base that are trained whole: names, or their ends.
    pub modules_to_save: Vec<String>,
    /// Whether an embedding and a head that are tied stay so where one of them is trained whole; else each is its own.
    pub ensure_weight_tying: bool,
    /// What adapters start with.
    pub start: AdapterStart,
    /// Tokens whose rows of the embedding or the head are trained in place of the base's.
    pub trained_tokens: Option<TokenIndices>,
    /// What an adapter computes.
    pub variant: LoraVariant,
}

impl LoraConfig {
    /// α/r, or α/√r, of a module.
    pub(crate) fn scale_of(&self, rank: usize, alpha: f32) -> f32 {
        let rank = rank as f64;
        let divisor = if self.rank_stabilised { rank.sqrt() } else { rank };
        (f64::from(alpha) / divisor) as f32
    }

    /// Refuses settings out of range.
    pub(crate) fn check(&self) -> Result<(), ModelError> {
        let of_module = self.rank_pattern.iter().find(|(_, rank)| *rank == 0).map(|(name, _)| format!("{name}=0"));
        let bad =
            if self.rank == 0 { Some(("rank", "0".to_string())) } else { of_module.map(|rank| ("rank-pattern", rank)) };
        if let Some((key, given)) = bad {
            let message = format!("{} {given}: an adapter needs a rank of at least 1", SettingName(key));
            return Err(ModelError::Setting(message));
        }
        if !(0.0..1.0).contains(&self.dropout) {
            let message = format!("{} {}: must be at least 0 and below 1", SettingName("dropout"), self.dropout);
            return Err(ModelError::Setting(message));
        }
        if self.start.takes_from_base() && !self.variant.0.may_take_from_base() {
            let (key, start) = (SettingName("init-lora-weights"), self.start);
            let problem = format!("goes with plain LoRA, and this is {}; leave one of them out", self.variant.0.name());
            return Err(ModelError::Setting(format!("{key} {start}: {problem}")));
        }
        Ok(())
    }
}

/// A kind of low-rank adapter: one of the table in `adapter`.
#[derive(Clone, Copy)]
pub struct LoraVariant(pub(super) &'static dyn Variant);

impl fmt::Debug for LoraVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.name())
    }
}

impl PartialEq for LoraVariant {
    fn eq(&self, other: &Self) -> bool {
        self.0.name() == other.0.name()
    }
}

/// What a variant says about itself.
pub(crate) trait Variant: Sync {
    /// What people call it.
    fn name(&self) -> &'static str;

    /// Whether it is what PEFT's settings ask for.
    fn is_meant_by(&self, peft: &AdapterConfig) -> bool;

    /// The same as PEFT's settings.
    fn to_peft(&self, config: &LoraConfig, targets: TargetModules) -> AdapterConfig;

    /// What it keeps beside each linear.
    fn tensors(&self) -> &'static [AdapterTensor];

    /// Whether it can start with a part of the base's weight that is taken out of that.
    fn may_take_from_base(&self) -> bool {
        false
    }

    /// Emits the linear's result with the adapter in it.
    fn emit(&self, b: &mut GraphBuilder, linear: &AdaptedLinear<'_>) -> Result<ValueId, IrError>;

    /// What emits the result of one linear of all experts with their adapters in it; `None` where there is no such form.
    fn of_experts(&self) -> Option<EmitOfExperts> {
        None
    }
}

/// Emits the result of one linear of all experts with their adapters in it.
pub(crate) type EmitOfExperts = fn(&mut GraphBuilder, &AdaptedExperts<'_>) -> Result<ValueId, IrError>;

/// One linear of all experts, each with an adapter.
pub(crate) struct AdaptedExperts<'a> {
    /// What the experts' linears are called together.
    pub path: &'a str,
    /// What each module's tensors begin with in PEFT's file.
    pub prefixes: Vec<String>,
    /// Where each expert's rows end.
    pub ends: ValueId,
    /// Its operand.
    pub x: ValueId,
    /// Its own result.
    pub y: ValueId,
    /// Width of the bottleneck.
    pub rank: usize,
    /// Factor of what the adapters add.
    pub scale: f32,
    /// Dropout on the adapters' input.
    pub dropout: f32,
    /// Width of the operand.
    pub fan_in: usize,
    /// Width of the result.
    pub fan_out: usize,
}

/// A tensor that an adapter keeps beside a linear.
pub(crate) struct AdapterTensor {
    /// Which it is.
    pub kind: ParameterKind,
    /// What it starts with.
    pub start: Start,
}

/// What a tensor starts with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// Uniform in ±1/√in: Kaiming's with a = √5.
    KaimingUniform,
    /// Normal, of mean 0 and deviation 1.
    Normal,
    /// Zeros.
    Zeros,
    /// The norms of the rows of the base's weight.
    RowNorms,
}

/// A linear that has an adapter.
pub(crate) struct AdaptedLinear<'a> {
    /// The module's name.
    pub path: &'a str,
    /// What the module's tensors begin with in PEFT's file.
    pub prefix: String,
    /// Its operand.
    pub x: ValueId,
    /// Its own parameters.
    pub base: BaseLinear,
    /// Whether what the adapter starts with is taken out of its weight.
    pub is_origin_taken: bool,
    /// Width of the bottleneck.
    pub rank: usize,
    /// Factor of what the adapter adds.
    pub scale: f32,
    /// Dropout on the adapter's input.
    pub dropout: f32,
    /// Width of the operand.
    pub fan_in: usize,
    /// Width of the result.
    pub fan_out: usize,
}

/// The parameters of a linear of the base.
#[derive(Clone, Copy)]
pub(crate) struct BaseLinear {
    /// Its weight, perhaps quantised.
    pub weight: ValueId,
    /// How that is stored.
    pub layout: Layout,
    /// Its bias, if it has one.
    pub bias: Option<ValueId>,
}

impl BaseLinear {
    /// Emits its result for an operand.
    pub fn emit(&self, b: &mut GraphBuilder, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let operands: Vec<ValueId> = [x, self.weight].into_iter().chain(self.bias).collect();
        b.op1(path, Linear { bias: self.bias.is_some(), ..Linear::plain(self.layout) }, &operands)
    }
}
