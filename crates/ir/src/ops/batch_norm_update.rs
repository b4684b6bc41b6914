//! `batch_norm_update`: the running statistics of `batch_norm`, in place: running := (1 − momentum)·running + momentum·new, where
//! the new variance is the unbiased one, variance · count/(count − 1). As torch.nn.BatchNorm: once for each run in training.
//!
//! Operands: the running mean and variance, states f32 [C], then mean and variance of the batch, f32 [C]. Results: the states'
//! new values.

use super::{OpDef, operands, rank, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `batch_norm_update`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormUpdate {
    /// Weight of the new, in [0, 1].
    pub momentum: f32,
    /// How many elements the statistics are of; at least 2.
    pub count: usize,
}

impl BatchNormUpdate {
    /// The factor that makes a variance unbiased.
    pub fn unbiased(&self) -> f64 {
        self.count as f64 / (self.count as f64 - 1.0)
    }
}

impl OpDef for BatchNormUpdate {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 4)?;
        if !(0.0..=1.0).contains(&self.momentum) {
            return Err(format!("attribute momentum = {} must be in [0, 1]", self.momentum));
        }
        if self.count < 2 {
            return Err(format!("attribute count = {} must be at least 2", self.count));
        }
        rank("the running mean", inputs[0], 1)?;
        for (name, operand) in ["the running mean", "the running variance", "mean", "variance"].iter().zip(inputs) {
            typed(name, operand, DType::F32, &inputs[0].shape)?;
        }
        Ok(vec![inputs[0].clone(), inputs[1].clone()])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["mean", "variance"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 1)]
    }

    fn activations(&self, operands: usize) -> Range<usize> {
        operands..operands
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("batch_norm_update", "an update in place has no derivative"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(7.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let momentum = f64::from(self.momentum);
        let updated = |running: &Array, new: &Array, factor: f64| {
            running.zip(new, |running, new| (1.0 - momentum) * running + momentum * factor * new)
        };
        vec![updated(inputs[0], inputs[2], 1.0), updated(inputs[1], inputs[3], self.unbiased())]
    }

    fn samples() -> Vec<Sample> {
        let of = |momentum, count, channels: usize| {
            let sample = Sample::new(BatchNormUpdate { momentum, count }).normal([channels]);
            let sample = sample.normal_around([channels], 1.0, 0.1).normal([channels]);
            sample.normal_around([channels], 1.5, 0.1)
        };
        vec![of(0.1, 2, 1), of(0.1, 40, 35), of(1.0, 7, 3), of(0.0, 7, 3)]
    }
}
