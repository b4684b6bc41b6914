//! Optimizers and what goes with them: clipping, and groups of parameters with settings of their own.
//!
//! Invariant: settings say what an update computes, completely; which states that takes follows from them. Look next at
//! `update` for the graph.

use remat_ir::{Parameter, ParameterKind, StateRole, World};

/// How the moments of a parameter are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MomentFormat {
    /// 32-bit floats.
    #[default]
    F32,
    /// 8-bit codes with one f32 scale per 256 elements, for parameters of at least [`LEAST_8BIT_ELEMENTS`].
    Blocks8,
}

/// Parameters of fewer elements keep moments of 32 bits, as in bitsandbytes: they cost little, and norm weights and
/// biases are the ones that 8 bits would harm.
pub const LEAST_8BIT_ELEMENTS: usize = 4096;

impl MomentFormat {
    /// Whether this parameter's moments are codes.
    pub fn quantises(self, parameter: &Parameter) -> bool {
        self == MomentFormat::Blocks8 && parameter.ty.shape.numel() >= LEAST_8BIT_ELEMENTS
    }

    /// The states of a parameter that outlive an update of AdamW.
    pub fn saved(self, parameter: &Parameter) -> &'static [StateRole] {
        use StateRole::{FirstMoment, FirstMomentScales, SecondMoment, SecondMomentScales, Value};
        if self.quantises(parameter) {
            &[Value, FirstMoment, SecondMoment, FirstMomentScales, SecondMomentScales]
        } else {
            &[Value, FirstMoment, SecondMoment]
        }
    }
}

/// Settings of AdamW (Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019), as torch.optim.AdamW.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamWSettings {
    /// Decay of the first moment; 0.9.
    pub beta1: f32,
    /// Decay of the second moment; 0.999.
    pub beta2: f32,
    /// Added to the root of the second moment; 1e-8.
    pub eps: f32,
    /// Decay of weights, on parameters that decay; 0.
    pub weight_decay: f32,
    /// How moments are stored.
    pub moments: MomentFormat,
    /// The rate of an adapter's second matrices, and of vectors, over that of all else (Hayou et al., *LoRA+*, 2024), as in
    /// PEFT's `create_loraplus_optimizer`; 1.
    pub adapter_b_rate: f32,
    /// What the learning rate of an embedding's adapter is multiplied by: LoRA+ again, where it has a rate of its own; 1.
    pub embedding_rate: f32,
}

impl Default for AdamWSettings {
    fn default() -> Self {
        let moments = MomentFormat::F32;
        AdamWSettings {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            moments,
            adapter_b_rate: 1.0,
            embedding_rate: 1.0,
        }
    }
}

/// Settings of stochastic gradient descent, as torch.optim.SGD with a dampening of 0; everything 0 by default.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SgdSettings {
    /// How much of the last direction is kept, in [0, 1). With 0 there is no buffer of momentum.
    pub momentum: f32,
    /// Nesterov's momentum.
    pub nesterov: bool,
    /// Times the parameter, added to its gradient, on parameters that decay.
    pub weight_decay: f32,
}

/// Settings of Lion (Chen et al., *Symbolic discovery of optimization algorithms*, 2023), as lion-pytorch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LionSettings {
    /// How much of the direction is the moment's; 0.9.
    pub beta1: f32,
    /// Decay of the moment; 0.99.
    pub beta2: f32,
    /// Decay of weights, on parameters that decay; 0.
    pub weight_decay: f32,
}

impl Default for LionSettings {
    fn default() -> Self {
        LionSettings { beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

/// How parameters are updated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Optimizer {
    /// AdamW.
    AdamW(AdamWSettings),
    /// Stochastic gradient descent, with or without momentum.
    Sgd(SgdSettings),
    /// Lion.
    Lion(LionSettings),
}

impl Optimizer {
    /// Its name, as in a saved state.
    pub fn name(&self) -> &'static str {
        match self {
            Optimizer::AdamW(_) => "adamw",
            Optimizer::Sgd(_) => "sgd",
            Optimizer::Lion(_) => "lion",
        }
    }

    /// What a parameter's learning rate is multiplied by.
    pub(crate) fn rate_of(&self, parameter: &Parameter) -> f32 {
        let Optimizer::AdamW(settings) = self else { return 1.0 };
        match parameter.kind {
            ParameterKind::EmbeddingA | ParameterKind::EmbeddingB => settings.embedding_rate,
            ParameterKind::AdapterB => settings.adapter_b_rate,
            _ if parameter.ty.shape.len() == 1 => settings.adapter_b_rate,
            ParameterKind::Base | ParameterKind::AdapterA | ParameterKind::AdapterMagnitude | ParameterKind::Tokens => {
                1.0
            }
        }
    }

    /// What it decays weights by, where no group says otherwise.
    pub(crate) fn weight_decay(&self) -> f32 {
        match self {
            Optimizer::AdamW(settings) => settings.weight_decay,
            Optimizer::Sgd(settings) => settings.weight_decay,
            Optimizer::Lion(settings) => settings.weight_decay,
        }
    }
}

/// What is done to gradients before an optimizer sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Clip {
    /// Nothing.
    None,
    /// All are scaled by min(1, this / norm), with the norm of all of them together: torch.nn.utils.clip_grad_norm_.
    Norm(f32),
    /// Each element is brought into plus and minus this: torch.nn.utils.clip_grad_value_.
    Value(f32),
}

impl Default for Clip {
    /// A norm of 1, as transformers' Trainer has it.
    fn default() -> Self {
        Clip::Norm(1.0)
    }
}

/// Parameters with settings of their own.
#[derive(Debug, Clone, PartialEq)]
pub struct Group {
    /// What it is called.
    pub name: String,
    /// Names of its parameters.
    pub parameters: Vec<String>,
    /// Whether its learning rate is an input of its own, called [`Group::rate_input`].
    pub has_own_rate: bool,
    /// Decay of all its weights, in place of the optimizer's, which is that of parameters that decay.
    pub weight_decay: Option<f32>,
}

impl Group {
    /// The input of the update that is this group's learning rate.
    pub fn rate_input(&self) -> String {
        rate_input(&self.name)
    }
}

/// The input of the update that is the learning rate of a group with one of its own.
pub fn rate_input(group: &str) -> String {
    format!("lr.{group}")
}

/// How the gradients of several micro-batches of an update become one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Accumulation {
    /// Each micro-step adds onto the gradients of those before it, wherever its backward makes a part of them.
    #[default]
    Running,
    /// The gradient of each micro-batch begins at zero and is added to the sum once, in the order of micro-batches, so that
    /// the sum is the same wherever each was computed. It takes one more set of gradients.
    Apart,
}

impl Accumulation {
    /// The state that an update reads gradients from, and zeroes.
    pub fn sum(self) -> StateRole {
        match self {
            Accumulation::Running => StateRole::Gradient,
            Accumulation::Apart => StateRole::GradientSum,
        }
    }
}

/// How an update is made.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateRule {
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Clipping.
    pub clip: Clip,
    /// Groups; a parameter is in one of them at most.
    pub groups: Vec<Group>,
    /// How micro-batches add up.
    pub accumulation: Accumulation,
    /// The ranks that make it together, each of what it owns: micro-batches then add up apart.
    pub world: World,
}

impl UpdateRule {
    /// Of an optimizer and one process, with the usual clipping, no groups and one sum of gradients.
    pub fn of(optimizer: Optimizer) -> Self {
        let (clip, accumulation) = (Clip::default(), Accumulation::default());
        UpdateRule { optimizer, clip, groups: Vec::new(), accumulation, world: World::ALONE }
    }

    /// The group of a parameter.
    pub(crate) fn group_of(&self, parameter: &Parameter) -> Option<&Group> {
        self.groups.iter().find(|group| group.parameters.contains(&parameter.name))
    }
}
