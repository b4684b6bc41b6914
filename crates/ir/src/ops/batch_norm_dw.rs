//! `batch_norm_dw`: the parameters' gradients, dw = Σ over images and places of dy · (x − mean)/√(variance + eps) and
//! db = Σ dy, in f32, whichever statistics the forward used.
//!
//! Operands: dy like x, x [B, C, ..], mean and variance f32 [C], then, if `accumulate`, the two gradient states [C] that the
//! sums are added onto in place. Results: dw, db f32 [C].

use super::batch_norm::{BatchNorm, of_channel, rstd_of};
use super::group_norm::channels_of;
use super::{Op, OpDef, epsilon, operands, same, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `batch_norm_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormDw {
    /// Added to the variance.
    pub eps: f32,
    /// Whether the last two operands are gradient states to add onto.
    pub accumulate: bool,
}

impl OpDef for BatchNormDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, if self.accumulate { 6 } else { 4 })?;
        epsilon(self.eps)?;
        let (dy, x) = (inputs[0], inputs[1]);
        let [_, channels, _] = channels_of("x", x)?;
        same(("dy", dy), ("x", x))?;
        for (name, operand) in ["mean", "variance", "the weight's gradient", "the bias's gradient"].iter().zip(&inputs[2..]) {
            typed(name, operand, DType::F32, &[channels])?;
        }
        Ok(vec![Type::new(DType::F32, [channels]); 2])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["dw", "db"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(4, 0), (5, 1)] } else { Vec::new() }
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (BatchNormDw { accumulate: true, ..self.clone() }.into(), 0))
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("batch_norm_dw", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(5.0 * inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, x, mean, variance) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let start = |operand: usize| match self.accumulate {
            true => inputs[operand].clone(),
            false => Array::zeros(results[0].shape.clone()),
        };
        let (mut dw, mut db) = (start(4), start(5));
        for channel in 0..mean.data.len() {
            for at in of_channel(x, channel) {
                let normed = (x.data[at] - mean.data[channel]) * rstd_of(variance.data[channel], self.eps);
                dw.data[channel] += dy.data[at] * normed;
                db.data[channel] += dy.data[at];
            }
        }
        vec![dw, db]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in BatchNorm::samples() {
            let Op::BatchNorm(BatchNorm { eps, running }) = forward.op else { unreachable!("these are of batch_norm") };
            let results = forward.eval();
            let operands = |accumulate| {
                let dy = Sample::new(BatchNormDw { eps, accumulate }).normal(forward.types[0].shape.clone());
                let dy = dy.operand(&forward, 0);
                if running {
                    dy.operand(&forward, 3).operand(&forward, 4)
                } else {
                    dy.array(&results[1]).array(&results[2])
                }
            };
            let channels = forward.types[1].shape.last();
            samples.extend([operands(false), operands(true).normal([channels]).normal([channels])]);
        }
        samples
    }
}
