//! The update graph: gradient norm, clipping and AdamW over every parameter, all in place.
//!
//! Invariant: a parameter's update reads no other parameter, so one graph serves any number of them.

use crate::StepError;
use remat_ir::ops::{AdamW, AdamW8bit, Cast, ClipScale, GradNorm, MOMENT_BLOCK, Scale};
use remat_ir::{Builder, Graph, Parameter, ParameterKind, StateRole, Type, ValueId};
use remat_tensor::DType;

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

    /// The states of a parameter that outlive an update.
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
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decay of weights, on parameters that decay.
    pub weight_decay: f32,
    /// Largest gradient norm; 0 switches clipping off.
    pub clip_norm: f32,
    /// How moments are stored.
    pub moments: MomentFormat,
    /// The rate of an adapter's second matrices, and of vectors, over that of all else (Hayou et al., *LoRA+*, 2024); as in
    /// PEFT's `create_loraplus_optimizer`.
    pub adapter_b_rate: f32,
}

impl AdamWSettings {
    /// What a parameter's learning rate is multiplied by.
    fn rate_of(&self, parameter: &Parameter) -> f32 {
        let is_vector = parameter.ty.shape.len() == 1;
        if parameter.kind == ParameterKind::AdapterB || is_vector { self.adapter_b_rate } else { 1.0 }
    }
}

impl Default for AdamWSettings {
    fn default() -> Self {
        AdamWSettings {
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            weight_decay: 0.0,
            clip_norm: 1.0,
            moments: MomentFormat::F32,
            adapter_b_rate: 1.0,
        }
    }
}

/// The update of all parameters. States: each parameter, and `<name>.grad`, `<name>.m`, `<name>.v`; gradients are zeroed.
/// Moments of 8 bits also have `<name>.m_absmax` and `<name>.v_absmax`.
/// Under bf16 also `<name>.bf16`, the working copy, made anew from the updated parameter.
/// Inputs: `lr` f32 [1] and `step` i32 [1], counted from 1. Output: `grad_norm` f32 [1], before clipping.
///
/// # Errors
/// No parameters.
pub fn update_graph(parameters: &[Parameter], settings: &AdamWSettings) -> Result<Graph, StepError> {
    if parameters.is_empty() {
        return Err(StepError::NothingTrained);
    }
    let mut b = Builder::new();
    for parameter in parameters {
        StateRole::ALL.iter().for_each(|role| b.reserve(parameter.state(*role)));
    }
    let lr = b.scalar("lr", DType::F32);
    let step = b.scalar("step", DType::I32);
    let state = |b: &mut Builder, parameter: &Parameter, role: StateRole| {
        b.state_of(&parameter.name, parameter.kind, role, parameter.ty.clone())
    };
    let gradients: Vec<_> = parameters.iter().map(|parameter| state(&mut b, parameter, StateRole::Gradient)).collect();
    let norm = b.op1("grad_norm", GradNorm, &gradients)?;
    b.output(norm);
    // Without clipping the scale is min(1, largest f32 / norm) = 1.
    let max_norm = if settings.clip_norm > 0.0 { settings.clip_norm } else { f32::MAX };
    let scale = b.op1("clip_scale", ClipScale { max_norm }, &[norm])?;
    let faster = parameters.iter().find(|parameter| settings.rate_of(parameter) != 1.0);
    let faster = faster.map(|parameter| b.op1("lr.adapter_b", Scale { factor: settings.rate_of(parameter) }, &[lr]));
    let faster = faster.transpose()?;
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        let lr = faster.filter(|_| settings.rate_of(parameter) != 1.0).unwrap_or(lr);
        let weight_decay = if parameter.decay { settings.weight_decay } else { 0.0 };
        let op = AdamW { beta1: settings.beta1, beta2: settings.beta2, eps: settings.eps, weight_decay };
        let value = state(&mut b, parameter, StateRole::Value);
        let updated = if settings.moments.quantises(parameter) {
            let moments = moments_of_8_bits(&mut b, parameter);
            let operands = [&[value, gradient], &moments[..], &[lr, step, scale]].concat();
            b.op(&format!("adamw8bit.{}", parameter.name), AdamW8bit(op), &operands)?[0]
        } else {
            let (m, v) =
                (state(&mut b, parameter, StateRole::FirstMoment), state(&mut b, parameter, StateRole::SecondMoment));
            b.op(&format!("adamw.{}", parameter.name), op, &[value, gradient, m, v, lr, step, scale])?[0]
        };
        if parameter.has_working_copy {
            let ty = Type::new(DType::BF16, parameter.ty.shape.clone());
            let copy = b.state_of(&parameter.name, parameter.kind, StateRole::WorkingCopy, ty);
            b.op1(&format!("cast.{}", parameter.name), Cast { to: DType::BF16, into: true }, &[updated, copy])?;
        }
    }
    Ok(b.finish())
}

/// The states m, v and their scales.
fn moments_of_8_bits(b: &mut Builder, parameter: &Parameter) -> [ValueId; 4] {
    let codes = Type::new(DType::U8, parameter.ty.shape.clone());
    let scales = Type::new(DType::F32, [parameter.ty.shape.numel().div_ceil(MOMENT_BLOCK)]);
    use StateRole::{FirstMoment, FirstMomentScales, SecondMoment, SecondMomentScales};
    [(FirstMoment, &codes), (SecondMoment, &codes), (FirstMomentScales, &scales), (SecondMomentScales, &scales)]
        .map(|(role, ty)| b.state_of(&parameter.name, parameter.kind, role, ty.clone()))
}
