//! `rms_norm_dw`: the weight's gradient, dw = Σ over rows and groups of dy · x · rstd, in f32.
//!
//! Operands: dy like x, x [.., G·D], rstd [.., G], then, if `accumulate`, the gradient state [D]. Result: dw [D].

use super::rms_norm::RmsNorm;
use super::{Op, OpDef, float, operands, same, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `rms_norm_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNormDw {
    /// Whether the last operand is a gradient state to add onto.
    pub accumulate: bool,
}

impl OpDef for RmsNormDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3 + usize::from(self.accumulate))?;
        let (dy, x, rstd) = (inputs[0], inputs[1], inputs[2]);
        float("x", x)?;
        same(("dy", dy), ("x", x))?;
        let groups = rstd.shape.last();
        if groups == 0 || x.shape.is_empty() || !x.shape.last().is_multiple_of(groups) {
            return Err(format!("rstd {rstd} does not divide the last axis of x {x}"));
        }
        typed("rstd", rstd, DType::F32, &x.shape.with_last(groups))?;
        let width = x.shape.last() / groups;
        if self.accumulate {
            typed("the gradient", inputs[3], DType::F32, &[width])?;
        }
        Ok(vec![Type::new(DType::F32, [width])])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(3, 0)] } else { Vec::new() }
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        self.accumulate.then(|| vec![0, 1, 2])
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (RmsNormDw { accumulate: true }.into(), 0))
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("rms_norm_dw", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(3.0 * inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, x, rstd) = (inputs[0], inputs[1], inputs[2]);
        let width = results[0].shape.last();
        let mut dw = if self.accumulate { inputs[3].clone() } else { Array::zeros([width]) };
        for (group, &r) in rstd.data.iter().enumerate() {
            for i in 0..width {
                dw.data[i] += dy.data[group * width + i] * x.data[group * width + i] * r;
            }
        }
        vec![dw]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in RmsNorm::samples() {
            let rstd = &forward.eval()[1];
            let operands = |accumulate| {
                let dy = Sample::new(RmsNormDw { accumulate }).normal(forward.types[0].shape.clone());
                dy.operand(&forward, 0).array(rstd)
            };
            let width = forward.types[1].shape.last();
            samples.extend([operands(false), operands(true).normal([width])]);
        }
        samples
    }
}
