//! `target_weight`: the weight of each row's class, w[target], and 0 where the target is ignored: what a weighted mean of
//! losses is divided by.
//!
//! Operands: targets i32 [..], then the classes' weights w f32 [C] if `weighted` (else every weight is 1). Result: f32 of the
//! shape of targets. Nothing of it is differentiated. Executors refuse a target outside 0..C; here it gives NaN.

use super::embedding::row_of;
use super::{IGNORED, OpDef, integer, operands, rank};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `target_weight`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetWeight {
    /// The target of a row that takes no part.
    pub ignored: i32,
    /// Whether the weights of the classes follow.
    pub weighted: bool,
}

impl OpDef for TargetWeight {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1 + usize::from(self.weighted))?;
        integer("targets", inputs[0])?;
        if let Some(weights) = inputs.get(1) {
            rank("weights", weights, 1)?;
            if weights.dtype != DType::F32 {
                return Err(format!("weights {weights} must be f32"));
            }
        }
        Ok(vec![Type::new(DType::F32, inputs[0].shape.clone())])
    }

    fn activations(&self, operands: usize) -> Range<usize> {
        operands..operands
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("target_weight", "the weights of classes cannot be trained; use frozen ones"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let weight = |target: f64| match inputs.get(1) {
            _ if target == f64::from(self.ignored) => 0.0,
            None => 1.0,
            Some(weights) => row_of(target, weights.data.len()).map_or(f64::NAN, |class| weights.data[class]),
        };
        vec![inputs[0].map(weight)]
    }

    fn samples() -> Vec<Sample> {
        let plain = TargetWeight { ignored: IGNORED, weighted: false };
        let weighted = TargetWeight { ignored: 1, weighted: true };
        vec![
            Sample::new(plain).i32([2, 3], vec![4, IGNORED, 0, 1, 9, IGNORED]),
            Sample::new(weighted).ids([4, 35], 5).normal_around([5], 1.0, 0.2),
        ]
    }
}
