//! `batch_norm_grad`: dx of `batch_norm`. With rstd = 1/√(variance + eps), x̂ = (x − mean)·rstd, g = dy·w and means over a
//! channel: dx = rstd · (g − mean(g) − x̂ · mean(g·x̂)); with given statistics dx = rstd · g.
//!
//! Operands: dy like x, x [B, C, ..], w [C], mean and variance f32 [C]; if `running` dy, w, variance. Result: dx like x.

use super::batch_norm::{BatchNorm, of_channel, rstd_of};
use super::group_norm::channels_of;
use super::group_norm_grad::through_statistics;
use super::{OpDef, epsilon, operands, same, typed};
use crate::{Array, Cost, IrError, Op, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `batch_norm_grad`: those of its forward.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNormGrad {
    /// Added to the variance.
    pub eps: f32,
    /// Whether the forward was given its statistics.
    pub running: bool,
}

impl OpDef for BatchNormGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, if self.running { 3 } else { 5 })?;
        epsilon(self.eps)?;
        let (dy, [_, channels, _]) = (inputs[0], channels_of("dy", inputs[0])?);
        let rest = if self.running { &inputs[1..] } else { &inputs[2..] };
        if !self.running {
            same(("dy", dy), ("x", inputs[1]))?;
            typed("mean", rest[1], DType::F32, &[channels])?;
        }
        typed("weight", rest[0], dy.dtype, &[channels])?;
        typed("variance", rest[rest.len() - 1], DType::F32, &[channels])?;
        Ok(vec![dy.clone()])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::LayerNormGrad
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        if self.running { 0..2 } else { 0..3 }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("batch_norm_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(if self.running { 2.0 } else { 11.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, mut dx) = (inputs[0], inputs[0].clone());
        let rest = if self.running { &inputs[1..] } else { &inputs[2..] };
        for channel in 0..dy.shape[1] {
            let rstd = rstd_of(rest[rest.len() - 1].data[channel], self.eps);
            let g: Vec<f64> = of_channel(dy, channel).map(|at| dy.data[at] * rest[0].data[channel]).collect();
            let through: Vec<f64> = if self.running {
                g.iter().map(|g| g * rstd).collect()
            } else {
                let normed = of_channel(dy, channel).map(|at| (inputs[1].data[at] - rest[1].data[channel]) * rstd);
                through_statistics(&g, &normed.collect::<Vec<_>>(), rstd)
            };
            of_channel(dy, channel).zip(through).for_each(|(at, through)| dx.data[at] = through);
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let Op::BatchNorm(BatchNorm { eps, running }) = forward.op else { unreachable!("these are of batch_norm") };
            let dy = Sample::new(BatchNormGrad { eps, running }).normal(forward.types[0].shape.clone());
            if running {
                return dy.operand(&forward, 1).operand(&forward, 4);
            }
            let results = forward.eval();
            dy.operand(&forward, 0).operand(&forward, 1).array(&results[1]).array(&results[2])
        };
        BatchNorm::samples().into_iter().map(with_cotangent).collect()
    }
}
