//! `sgd`: one step of stochastic gradient descent on one parameter, in place; the gradient is zeroed for the next
//! accumulation.
//!
//! Operands: p, g (f32 states of one shape), where there is momentum the buffer m (the same), lr f32 [1], grad_scale
//! f32 [1]. Results: the new values of the states. With g scaled: g += decay·p; m = μm + g; p −= lr·m, or with Nesterov's
//! momentum p −= lr·(g + μm); without momentum p −= lr·g. The buffer begins at zero, so that the first m is g.
//! torch.optim.SGD with a dampening of 0; Sutskever, Martens, Dahl and Hinton, 2013.

use super::{OpDef, finite, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `sgd`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// μ, in [0, 1): how much of the last direction is kept. With 0 there is no buffer.
    pub momentum: f32,
    /// Whether the gradient is looked at after the momentum's step.
    pub nesterov: bool,
    /// Times the parameter, added to the gradient.
    pub weight_decay: f32,
}

impl Sgd {
    /// Whether there is a buffer of momentum.
    pub fn has_momentum(&self) -> bool {
        self.momentum != 0.0
    }

    /// States: p, g, and the buffer.
    fn states(&self) -> usize {
        2 + usize::from(self.has_momentum())
    }
}

impl OpDef for Sgd {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        if !(0.0..1.0).contains(&self.momentum) {
            return Err(format!("attribute momentum = {} must be in [0, 1)", self.momentum));
        }
        if self.nesterov && !self.has_momentum() {
            return Err("attribute nesterov needs a momentum above 0".to_string());
        }
        finite("weight_decay", self.weight_decay)?;
        let states = self.states();
        operands(inputs, states + 2)?;
        let p = inputs[0];
        for (name, ty) in ["p", "g", "m"].into_iter().zip(&inputs[..states]) {
            typed(name, ty, DType::F32, &p.shape)?;
        }
        typed("lr", inputs[states], DType::F32, &[1])?;
        typed("grad_scale", inputs[states + 1], DType::F32, &[1])?;
        Ok(vec![p.clone(); states])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["p", "g", "m"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        (0..self.states()).map(|index| (index, index)).collect()
    }

    fn by_element(&self, operands: usize) -> Option<Vec<usize>> {
        Some((0..operands).map(|operand| usize::from(operand < self.states())).collect())
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Optimizer
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("sgd", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(7.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let states = self.states();
        let (p, lr, grad_scale) = (inputs[0], inputs[states].data[0], inputs[states + 1].data[0]);
        let momentum = f64::from(self.momentum);
        let g = inputs[1].zip(p, |g, p| g * grad_scale + f64::from(self.weight_decay) * p);
        let zeros = Array::zeros(g.shape.clone());
        if !self.has_momentum() {
            return vec![p.zip(&g, |p, g| p - lr * g), zeros];
        }
        let m = inputs[2].zip(&g, |m, g| momentum * m + g);
        let direction = if self.nesterov { g.zip(&m, |g, m| g + momentum * m) } else { m.clone() };
        vec![p.zip(&direction, |p, direction| p - lr * direction), zeros, m]
    }

    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize], momentum, nesterov, weight_decay, grad_scale: f64| {
            let op = Sgd { momentum, nesterov, weight_decay };
            let has_momentum = op.has_momentum();
            let states = Sample::new(op).normal(shape).normal(shape);
            let states = if has_momentum { states.normal_around(shape, 0.0, 0.1) } else { states };
            states.f32([1], vec![1e-2]).f32([1], vec![grad_scale])
        };
        vec![
            of(&[1], 0.0, false, 0.0, 1.0),
            of(&[5, 7], 0.9, false, 0.1, 0.3),
            of(&[33, 19], 0.5, true, 0.01, 1.0),
            of(&[17], 0.0, false, 0.5, 0.25),
        ]
    }
}
