//! `group_norm_dw`: the parameters' gradients, dw = Σ over images and places of dy · (x − mean) · rstd and db = Σ dy, in f32.
//!
//! Operands: dy like x, x [B, C, ..], mean and rstd f32 [B, groups], then, if `accumulate`, the two gradient states [C] that
//! the sums are added onto in place. Results: dw, db f32 [C].

use super::group_norm::{GroupNorm, fit};
use super::{Op, OpDef, operands, same, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `group_norm_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNormDw {
    /// Groups of channels; divides C.
    pub groups: usize,
    /// Whether the last two operands are gradient states to add onto.
    pub accumulate: bool,
}

impl OpDef for GroupNormDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, if self.accumulate { 6 } else { 4 })?;
        let (dy, x) = (inputs[0], inputs[1]);
        let [batch, channels, _] = fit(self.groups, x)?;
        same(("dy", dy), ("x", x))?;
        typed("mean", inputs[2], DType::F32, &[batch, self.groups])?;
        typed("rstd", inputs[3], DType::F32, &[batch, self.groups])?;
        if self.accumulate {
            typed("the weight's gradient", inputs[4], DType::F32, &[channels])?;
            typed("the bias's gradient", inputs[5], DType::F32, &[channels])?;
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
        (!self.accumulate).then(|| (GroupNormDw { accumulate: true, ..self.clone() }.into(), 0))
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("group_norm_dw", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(5.0 * inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, x, mean, rstd) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let start = |operand: usize| match self.accumulate {
            true => inputs[operand].clone(),
            false => Array::zeros(results[0].shape.clone()),
        };
        let (mut dw, mut db) = (start(4), start(5));
        let (size, channels) = (x.data.len() / mean.data.len(), dw.data.len());
        let places = size / (channels / self.groups);
        for (i, (dy, x)) in dy.data.iter().zip(&x.data).enumerate() {
            let (set, channel) = (i / size, i / places % channels);
            dw.data[channel] += dy * (x - mean.data[set]) * rstd.data[set];
            db.data[channel] += dy;
        }
        vec![dw, db]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in GroupNorm::samples() {
            let Op::GroupNorm(GroupNorm { groups, .. }) = forward.op else { unreachable!("these are of group_norm") };
            let results = forward.eval();
            let operands = |accumulate| {
                let dy = Sample::new(GroupNormDw { groups, accumulate }).normal(forward.types[0].shape.clone());
                dy.operand(&forward, 0).array(&results[1]).array(&results[2])
            };
            let channels = forward.types[1].shape.last();
            samples.extend([operands(false), operands(true).normal([channels]).normal([channels])]);
        }
        samples
    }
}
