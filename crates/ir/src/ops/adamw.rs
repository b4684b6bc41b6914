//! `adamw`: one step of AdamW on one parameter, in place; the gradient is zeroed for the next accumulation.
//!
//! Operands: p, g, m, v (f32 states of one shape), lr f32 [1], step i32 [1] counted from 1, grad_scale f32 [1].
//! Results: their new values. With g scaled: p −= lr·decay·p; m = β₁m + (1−β₁)g; v = β₂v + (1−β₂)g²;
//! p −= lr · (m/(1−β₁ᵗ)) / (√(v/(1−β₂ᵗ)) + eps). Loshchilov and Hutter, *Decoupled weight decay regularization*, 2019;
//! torch.optim.AdamW.

use super::{OpDef, epsilon, finite, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `adamw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdamW {
    /// Decay of the first moment, in [0, 1).
    pub beta1: f32,
    /// Decay of the second moment, in [0, 1).
    pub beta2: f32,
    /// Added to the root of the second moment.
    pub eps: f32,
    /// Decay of the parameter, not scaled by the moments.
    pub weight_decay: f32,
}

impl AdamW {
    pub(super) fn check_attributes(&self) -> Result<(), String> {
        for (name, beta) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            if !(0.0..1.0).contains(&beta) {
                return Err(format!("attribute {name} = {beta} must be in [0, 1)"));
            }
        }
        epsilon(self.eps)?;
        finite("weight_decay", self.weight_decay)
    }
}

impl OpDef for AdamW {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 7)?;
        self.check_attributes()?;
        let p = inputs[0];
        for (name, ty) in ["p", "g", "m", "v"].into_iter().zip(inputs) {
            typed(name, ty, DType::F32, &p.shape)?;
        }
        typed("lr", inputs[4], DType::F32, &[1])?;
        typed("step", inputs[5], DType::I32, &[1])?;
        typed("grad_scale", inputs[6], DType::F32, &[1])?;
        Ok(vec![p.clone(); 4])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["p", "g", "m", "v"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 1), (2, 2), (3, 3)]
    }

    fn by_element(&self, _operands: usize) -> Option<Vec<usize>> {
        Some(vec![1, 1, 1, 1, 0, 0, 0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Optimizer
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("adamw", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(16.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (lr, step, grad_scale) = (inputs[4].data[0], inputs[5].data[0], inputs[6].data[0]);
        let (beta1, beta2) = (f64::from(self.beta1), f64::from(self.beta2));
        let (correction1, correction2) = (1.0 - beta1.powf(step), 1.0 - beta2.powf(step));
        let g = inputs[1].map(|g| g * grad_scale);
        let m = inputs[2].zip(&g, |m, g| beta1 * m + (1.0 - beta1) * g);
        let v = inputs[3].zip(&g, |v, g| beta2 * v + (1.0 - beta2) * g * g);
        let update = m.zip(&v, |m, v| (m / correction1) / ((v / correction2).sqrt() + f64::from(self.eps)));
        let p = inputs[0].zip(&update, |p, update| p * (1.0 - lr * f64::from(self.weight_decay)) - lr * update);
        vec![p, Array::zeros(g.shape), m, v]
    }

    /// The second moments are positive, as squares are.
    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize], lr: f64, step: i32, grad_scale: f64, weight_decay: f32| {
            let squares = Sample::new(AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay })
                .normal(shape)
                .normal(shape)
                .normal_around(shape, 0.0, 0.1)
                .normal(shape);
            let positive = squares.inputs[3].map(|v| 0.01 * v * v);
            let mut sample = squares.f32([1], vec![lr]).i32([1], vec![step]).f32([1], vec![grad_scale]);
            sample.inputs[3] = positive.map(|v| f64::from(v as f32));
            sample
        };
        vec![of(&[1], 1e-3, 1, 1.0, 0.0), of(&[5, 7], 2e-4, 2, 0.3, 0.1), of(&[33, 19], 1e-2, 1000, 1.0, 0.01)]
    }
}
