//! `clip_scale`: the factor that brings gradients of the given norm down to `max_norm`: min(1, max_norm/(norm + 1e-6)).
//!
//! Operand: norm f32 [1]. Result: f32 [1]. A norm that is not a number stays one, so that a broken step is seen; with the
//! largest f32 for `max_norm` the factor of any other norm, an infinite one included, is 1. Pascanu, Mikolov and Bengio, 2013; torch.nn.utils.clip_grad_norm_.

use super::{OpDef, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `clip_scale`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClipScale {
    /// The largest norm that is let through.
    pub max_norm: f32,
}

impl OpDef for ClipScale {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        if !self.max_norm.is_finite() || self.max_norm <= 0.0 {
            return Err(format!("attribute max_norm = {} must be a positive number", self.max_norm));
        }
        typed("norm", inputs[0], DType::F32, &[1])?;
        Ok(vec![inputs[0].clone()])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("clip_scale", "it belongs to the update, which is not differentiated"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(3.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|norm| {
            let scale = f64::from(self.max_norm) / (norm + 1e-6);
            // Not f64::min, which would turn NaN into 1.
            if scale > 1.0 || (self.max_norm == f32::MAX && !norm.is_nan()) { 1.0 } else { scale }
        })]
    }

    fn samples() -> Vec<Sample> {
        let of = |max_norm, norm| Sample::new(ClipScale { max_norm }).f32([1], vec![norm]);
        vec![of(1.0, 0.25), of(1.0, 7.5), of(0.5, 0.0), of(f32::MAX, 3.0), of(f32::MAX, f64::INFINITY)]
    }
}
