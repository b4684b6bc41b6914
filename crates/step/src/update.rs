//! The update graph: gradient norm, clipping and the optimizer over every parameter, all in place.
//!
//! Invariant: a parameter's update reads no other parameter, so one graph serves any number of them. Look next at
//! `optimizer` for the settings, and at `sharded_update` for the same on several ranks.

use crate::{AdamWSettings, Clip, Optimizer, StepError, UpdateRule};
use remat_ir::ops::{AdamW, AdamW8bit, Cast, ClipScale, ClipValue, GradNorm, Lion, MOMENT_BLOCK, Scale, Sgd};
use remat_ir::{Builder, Graph, Parameter, ParameterKind, StateRole, Type, ValueId};
use remat_tensor::DType;
use std::collections::HashMap;
use std::ops::Range;

/// What every parameter's update reads.
pub(crate) struct Scalars {
    rate: ValueId,
    /// The rates of parameters whose rate is a multiple of the others', by the factor.
    multiples: Vec<(f32, ValueId)>,
    group_rates: HashMap<String, ValueId>,
    number: ValueId,
    grad_scale: ValueId,
}

/// The same before the norm of the gradients is known.
pub(crate) struct Rates {
    rate: ValueId,
    multiples: Vec<(f32, ValueId)>,
    group_rates: HashMap<String, ValueId>,
    number: ValueId,
}

impl Scalars {
    /// The inputs.
    pub(crate) fn rates(b: &mut Builder, parameters: &[Parameter], rule: &UpdateRule) -> Result<Rates, StepError> {
        let rate = b.scalar("lr", DType::F32);
        let number = b.scalar("step", DType::I32);
        let with_rates = rule.groups.iter().filter(|group| group.has_own_rate);
        let group_rates =
            with_rates.map(|group| (group.name.clone(), b.scalar(&group.rate_input(), DType::F32))).collect();
        let multiples = multiples(b, rate, parameters, rule)?;
        Ok(Rates { rate, multiples, group_rates, number })
    }
}

impl Rates {
    /// With the factor that clips gradients of this norm.
    pub(crate) fn clipped(self, b: &mut Builder, norm: ValueId, rule: &UpdateRule) -> Result<Scalars, StepError> {
        let max_norm = match rule.clip {
            Clip::Norm(norm) => norm,
            // With the largest f32 the scale is 1.
            Clip::None | Clip::Value(_) => f32::MAX,
        };
        let grad_scale = b.op1("clip_scale", ClipScale { max_norm }, &[norm])?;
        let Rates { rate, multiples, group_rates, number } = self;
        Ok(Scalars { rate, multiples, group_rates, number, grad_scale })
    }
}

/// What of a parameter a process updates: all of it, or some elements.
pub(crate) struct Owned<'a> {
    pub(crate) parameter: &'a Parameter,
    first: usize,
    /// Of its gradient and moments.
    ty: Type,
}

impl<'a> Owned<'a> {
    /// All of it.
    pub(crate) fn whole(parameter: &'a Parameter) -> Self {
        Owned { parameter, first: 0, ty: parameter.ty.clone() }
    }

    /// Some elements; all of them in the parameter's own shape.
    pub(crate) fn piece(parameter: &'a Parameter, elements: Range<usize>) -> Self {
        if elements.len() == parameter.ty.shape.numel() {
            return Owned::whole(parameter);
        }
        Owned { parameter, first: elements.start, ty: Type::new(parameter.ty.dtype, [elements.len()]) }
    }

    /// A state of the shape of what is owned.
    pub(crate) fn state(&self, b: &mut Builder, role: StateRole) -> ValueId {
        b.state_of(&self.parameter.name, self.parameter.kind, role, self.ty.clone())
    }
}

/// The update of all parameters. States: each parameter, `<name>.grad` (`<name>.grad_sum` where micro-batches are added up
/// apart), zeroed by it, and what the optimizer keeps: of AdamW
/// `<name>.m` and `<name>.v`, of Lion and of momentum `<name>.m`.
/// Moments of 8 bits also have `<name>.m_absmax` and `<name>.v_absmax`.
/// Under bf16 also `<name>.bf16`, the working copy, made anew from the updated parameter.
/// Inputs, where something reads them: `lr` f32 [1], one more of each group with a rate of its own, and `step` i32 [1],
/// counted from 1. Output: `grad_norm` f32 [1], before clipping.
/// That of one of several ranks is [`crate::TrainingStep`]'s to make.
///
/// # Errors
/// No parameters; settings that the optimizer refuses.
pub fn update_graph(parameters: &[Parameter], rule: &UpdateRule) -> Result<Graph, StepError> {
    let mut b = begin(parameters)?;
    let rates = Scalars::rates(&mut b, parameters, rule)?;
    let gradients: Vec<_> =
        parameters.iter().map(|parameter| Owned::whole(parameter).state(&mut b, rule.accumulation.sum())).collect();
    let norm = b.op1("grad_norm", GradNorm, &gradients)?;
    b.output(norm);
    let scalars = rates.clipped(&mut b, norm, rule)?;
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        let gradient = clip(&mut b, parameter, gradient, &scalars, rule)?;
        let updated = update(&mut b, &Owned::whole(parameter), gradient, &scalars, rule)?;
        working_copy(&mut b, parameter, updated)?;
    }
    Ok(b.finish())
}

/// A builder in which the names of all states of the parameters are taken.
///
/// # Errors
/// No parameters.
pub(crate) fn begin(parameters: &[Parameter]) -> Result<Builder, StepError> {
    if parameters.is_empty() {
        return Err(StepError::NothingTrained);
    }
    let mut b = Builder::new();
    for parameter in parameters {
        StateRole::ALL.iter().for_each(|role| b.reserve(&parameter.state(*role)));
    }
    Ok(b)
}

/// A gradient with each element brought within bounds, where the rule says so.
pub(crate) fn clip(
    b: &mut Builder,
    parameter: &Parameter,
    gradient: ValueId,
    scalars: &Scalars,
    rule: &UpdateRule,
) -> Result<ValueId, StepError> {
    let Clip::Value(max_value) = rule.clip else { return Ok(gradient) };
    let name = format!("clip_value.{}", parameter.name);
    Ok(b.op1(&name, ClipValue { max_value }, &[gradient, scalars.grad_scale])?)
}

/// The working copy of an updated parameter, if it has one.
pub(crate) fn working_copy(b: &mut Builder, parameter: &Parameter, updated: ValueId) -> Result<(), StepError> {
    if parameter.has_working_copy {
        let ty = Type::new(DType::BF16, parameter.ty.shape.clone());
        let copy = b.state_of(&parameter.name, parameter.kind, StateRole::WorkingCopy, ty);
        b.op1(&format!("cast.{}", parameter.name), Cast { to: DType::BF16, into: true }, &[updated, copy])?;
    }
    Ok(())
}

/// The learning rates of the parameters whose rate is a multiple of the others'.
fn multiples(
    b: &mut Builder,
    rate: ValueId,
    parameters: &[Parameter],
    rule: &UpdateRule,
) -> Result<Vec<(f32, ValueId)>, StepError> {
    let mut multiples: Vec<(f32, ValueId)> = Vec::new();
    for parameter in parameters {
        let factor = rule.optimizer.rate_of(parameter);
        if factor != 1.0 && multiples.iter().all(|(other, _)| *other != factor) {
            let name = match parameter.kind {
                ParameterKind::EmbeddingA | ParameterKind::EmbeddingB => "lr.embedding",
                _ => "lr.adapter_b",
            };
            multiples.push((factor, b.op1(name, Scale { factor }, &[rate])?));
        }
    }
    Ok(multiples)
}

/// The update of what is owned of one parameter; returns the parameter's new value.
pub(crate) fn update(
    b: &mut Builder,
    owned: &Owned<'_>,
    gradient: ValueId,
    scalars: &Scalars,
    rule: &UpdateRule,
) -> Result<ValueId, StepError> {
    let parameter = owned.parameter;
    let group = rule.group_of(parameter);
    let usual_decay = if parameter.decay { rule.optimizer.weight_decay() } else { 0.0 };
    let weight_decay = group.and_then(|group| group.weight_decay).unwrap_or(usual_decay);
    let own_rate = group.and_then(|group| scalars.group_rates.get(&group.name));
    let factor = rule.optimizer.rate_of(parameter);
    let usual_rate =
        scalars.multiples.iter().find(|(other, _)| *other == factor).map_or(scalars.rate, |(_, rate)| *rate);
    let (lr, number, grad_scale) = (own_rate.copied().unwrap_or(usual_rate), scalars.number, scalars.grad_scale);
    let value = Owned::whole(parameter).state(b, StateRole::Value);
    let name = |op: &str| format!("{op}.{}", parameter.name);
    Ok(match &rule.optimizer {
        Optimizer::AdamW(settings) => {
            let AdamWSettings { beta1, beta2, eps, .. } = *settings;
            let op = AdamW { beta1, beta2, eps, weight_decay, first: owned.first };
            if settings.moments.quantises(parameter) {
                let moments = moments_of_8_bits(b, owned);
                let operands = [&[value, gradient], &moments[..], &[lr, number, grad_scale]].concat();
                b.op(&name("adamw8bit"), AdamW8bit(op), &operands)?[0]
            } else {
                let (m, v) = (owned.state(b, StateRole::FirstMoment), owned.state(b, StateRole::SecondMoment));
                b.op(&name("adamw"), op, &[value, gradient, m, v, lr, number, grad_scale])?[0]
            }
        }
        Optimizer::Sgd(settings) => {
            let op = Sgd { momentum: settings.momentum, nesterov: settings.nesterov, weight_decay };
            let momentum = op.has_momentum().then(|| owned.state(b, StateRole::FirstMoment));
            let operands: Vec<ValueId> =
                [value, gradient].into_iter().chain(momentum).chain([lr, grad_scale]).collect();
            b.op(&name("sgd"), op, &operands)?[0]
        }
        Optimizer::Lion(settings) => {
            let op = Lion { beta1: settings.beta1, beta2: settings.beta2, weight_decay };
            let m = owned.state(b, StateRole::FirstMoment);
            b.op(&name("lion"), op, &[value, gradient, m, lr, grad_scale])?[0]
        }
    })
}

/// The states m, v and their scales.
fn moments_of_8_bits(b: &mut Builder, Owned { parameter, ty, .. }: &Owned<'_>) -> [ValueId; 4] {
    let codes = Type::new(DType::U8, ty.shape.clone());
    let scales = Type::new(DType::F32, [ty.shape.numel().div_ceil(MOMENT_BLOCK)]);
    use StateRole::{FirstMoment, FirstMomentScales, SecondMoment, SecondMomentScales};
    [(FirstMoment, &codes), (SecondMoment, &codes), (FirstMomentScales, &scales), (SecondMomentScales, &scales)]
        .map(|(role, ty)| b.state_of(&parameter.name, parameter.kind, role, ty.clone()))
}
