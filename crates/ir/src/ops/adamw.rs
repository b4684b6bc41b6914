//! `adamw`: one step of AdamW on one parameter, in place; the gradient is zeroed for the next accumulation.
//!
//! Operands: p, g, m, v (f32 states of one shape; or g, m and v of one shape that are of the elements of p from `first` on, and
//! no others are updated), lr f32 [1], step i32 [1] counted from 1, grad_scale f32 [1].
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
    /// The first element of the parameter that is updated; all are where gradient and moments have its shape.
    #[serde(default, skip_serializing_if = "super::is_zero")]
    pub first: usize,
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

    /// Refuses a gradient that is not of so many elements of the parameter.
    pub(super) fn check_part(&self, p: &Type, g: &Type) -> Result<(), String> {
        typed("p", p, DType::F32, &p.shape)?;
        let is_whole = self.first == 0 && g.shape == p.shape;
        let fits = self.first.checked_add(g.shape.numel()).is_some_and(|end| end <= p.shape.numel());
        if is_whole || (g.shape.len() == 1 && fits) {
            return Ok(());
        }
        Err(format!("g {g} must have the shape of p {p}, or be of its elements from {} on", self.first))
    }

    /// `update` of the elements of `p` that a gradient of this shape is of: the new values of all of `p`, and its other results.
    pub(super) fn of_part(&self, p: &Array, g: &Array, update: impl FnOnce(&Array) -> Vec<Array>) -> Vec<Array> {
        let range = self.first..self.first + g.data.len();
        let mut results = update(&Array::new(g.shape.clone(), p.data[range.clone()].to_vec()));
        let mut whole = p.clone();
        whole.data[range].copy_from_slice(&results[0].data);
        results[0] = whole;
        results
    }
}

impl OpDef for AdamW {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 7)?;
        self.check_attributes()?;
        let [p, g] = [inputs[0], inputs[1]];
        self.check_part(p, g)?;
        for (name, ty) in ["g", "m", "v"].into_iter().zip(&inputs[1..]) {
            typed(name, ty, DType::F32, &g.shape)?;
        }
        typed("lr", inputs[4], DType::F32, &[1])?;
        typed("step", inputs[5], DType::I32, &[1])?;
        typed("grad_scale", inputs[6], DType::F32, &[1])?;
        Ok(vec![p.clone(), g.clone(), g.clone(), g.clone()])
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
        // Of the parameter as much as of its gradient.
        Cost::pointwise(16.0, &inputs[1..], &outputs[1..]).with_bytes(2 * inputs[1].bytes())
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (lr, step, grad_scale) = (inputs[4].data[0], inputs[5].data[0], inputs[6].data[0]);
        let (beta1, beta2) = (f64::from(self.beta1), f64::from(self.beta2));
        let (correction1, correction2) = (1.0 - beta1.powf(step), 1.0 - beta2.powf(step));
        let g = inputs[1].map(|g| g * grad_scale);
        let m = inputs[2].zip(&g, |m, g| beta1 * m + (1.0 - beta1) * g);
        let v = inputs[3].zip(&g, |v, g| beta2 * v + (1.0 - beta2) * g * g);
        let update = m.zip(&v, |m, v| (m / correction1) / ((v / correction2).sqrt() + f64::from(self.eps)));
        self.of_part(inputs[0], &g, |p| {
            let p = p.zip(&update, |p, update| p * (1.0 - lr * f64::from(self.weight_decay)) - lr * update);
            vec![p, Array::zeros(g.shape.clone()), m, v]
        })
    }

    /// The second moments are positive, as squares are.
    fn samples() -> Vec<Sample> {
        let part =
            |whole: &[usize], first, shape: &[usize], (lr, step, grad_scale): (f64, i32, f64), weight_decay: f32| {
                let squares = Sample::new(AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay, first })
                    .normal(whole)
                    .normal(shape)
                    .normal_around(shape, 0.0, 0.1)
                    .normal(shape);
                let positive = squares.inputs[3].map(|v| 0.01 * v * v);
                let mut sample = squares.f32([1], vec![lr]).i32([1], vec![step]).f32([1], vec![grad_scale]);
                sample.inputs[3] = positive.map(|v| f64::from(v as f32));
                sample
            };
        vec![
            part(&[1], 0, &[1], (1e-3, 1, 1.0), 0.0),
            part(&[5, 7], 0, &[5, 7], (2e-4, 2, 0.3), 0.1),
            part(&[33, 19], 0, &[33, 19], (1e-2, 1000, 1.0), 0.01),
            part(&[33, 19], 100, &[35], (1e-2, 3, 0.5), 0.01),
        ]
    }
}
