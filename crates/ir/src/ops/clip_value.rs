//! `clip_value`: a gradient brought into ±max_value, element by element and in place.
//!
//! Operands: g (an f32 state), grad_scale f32 [1]. Result: its new value, min(max(grad_scale·g, −max), max). What is not a
//! number stays one, so that a broken step is seen. torch.nn.utils.clip_grad_value_.

use super::{OpDef, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `clip_value`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipValue {
    /// The largest magnitude that is let through.
    pub max_value: f32,
}

impl OpDef for ClipValue {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        if !self.max_value.is_finite() || self.max_value <= 0.0 {
            return Err(format!("attribute max_value = {} must be a positive number", self.max_value));
        }
        operands(inputs, 2)?;
        typed("g", inputs[0], DType::F32, &inputs[0].shape)?;
        typed("grad_scale", inputs[1], DType::F32, &[1])?;
        Ok(vec![inputs[0].clone()])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn by_element(&self, _operands: usize) -> Option<Vec<usize>> {
        Some(vec![1, 0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Optimizer
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("clip_value", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(3.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (scale, max) = (inputs[1].data[0], f64::from(self.max_value));
        // Not f64::min and f64::max, which would turn NaN into a number.
        vec![inputs[0].map(|g| if g.is_nan() { g } else { (g * scale).clamp(-max, max) })]
    }

    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize], max_value, scale: f64| {
            Sample::new(ClipValue { max_value }).normal(shape).f32([1], vec![scale])
        };
        vec![of(&[1], 0.5, 1.0), of(&[5, 7], 0.25, 0.3), of(&[33, 19], 1.0, 1.0)]
    }
}
