//! `lion`: one step of Lion on one parameter, in place; the gradient is zeroed for the next accumulation.
//!
//! Operands: p, g, m (f32 states of one shape), lr f32 [1], grad_scale f32 [1]. Results: the new values of the states. With
//! g scaled: p −= lr·decay·p; p −= lr·sign(β₁m + (1−β₁)g); m = β₂m + (1−β₂)g. The sign of 0 is 0, and what is not a number
//! has none: it stays one, so that a broken step is seen. Chen et al., *Symbolic discovery of optimization algorithms*,
//! 2023; the order of operations is that of lion-pytorch.

use super::{OpDef, finite, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `lion`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lion {
    /// How much of the direction is the moment's, in [0, 1).
    pub beta1: f32,
    /// Decay of the moment, in [0, 1).
    pub beta2: f32,
    /// Decay of the parameter, not touched by the sign.
    pub weight_decay: f32,
}

impl OpDef for Lion {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(format!("attribute {name} = {beta} must be in [0, 1)"));
            }
        }
        finite("weight_decay", self.weight_decay)?;
        operands(inputs, 5)?;
        let p = inputs[0];
        for (name, ty) in ["p", "g", "m"].into_iter().zip(inputs) {
            typed(name, ty, DType::F32, &p.shape)?;
        }
        typed("lr", inputs[3], DType::F32, &[1])?;
        typed("grad_scale", inputs[4], DType::F32, &[1])?;
        Ok(vec![p.clone(); 3])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["p", "g", "m"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 1), (2, 2)]
    }

    fn by_element(&self, _operands: usize) -> Option<Vec<usize>> {
        Some(vec![1, 1, 1, 0, 0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Optimizer
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("lion", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(10.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (lr, grad_scale) = (inputs[3].data[0], inputs[4].data[0]);
        let (beta1, beta2) = (f64::from(self.beta1), f64::from(self.beta2));
        let g = inputs[1].map(|g| g * grad_scale);
        let direction = inputs[2].zip(&g, |m, g| sign(beta1 * m + (1.0 - beta1) * g));
        let decay = 1.0 - lr * f64::from(self.weight_decay);
        let p = inputs[0].zip(&direction, |p, direction| p * decay - lr * direction);
        let m = inputs[2].zip(&g, |m, g| beta2 * m + (1.0 - beta2) * g);
        vec![p, Array::zeros(g.shape), m]
    }

    /// Of the second, every third element has neither gradient nor moment.
    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize], lr: f64, grad_scale: f64, weight_decay: f32| {
            let op = Lion { beta1: 0.9, beta2: 0.99, weight_decay };
            let states = Sample::new(op).normal(shape).normal(shape).normal_around(shape, 0.0, 0.1);
            states.f32([1], vec![lr]).f32([1], vec![grad_scale])
        };
        let mut still = of(&[5, 7], 2e-2, 0.3, 0.1);
        for operand in [1, 2] {
            still.inputs[operand].data.iter_mut().step_by(3).for_each(|x| *x = 0.0);
        }
        vec![of(&[1], 1e-2, 1.0, 0.0), still, of(&[33, 19], 1e-2, 1.0, 0.01)]
    }
}

/// Not f64::signum, which has none for 0.
fn sign(x: f64) -> f64 {
    if x == 0.0 || x.is_nan() { x } else { x.signum() }
}
