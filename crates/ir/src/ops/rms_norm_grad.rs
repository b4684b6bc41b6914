//! `rms_norm_grad`: dx of `rms_norm`. With x̂ = x·rstd and g = dy·w, or dy·(1 + w): dx = rstd · (g − x̂ · mean(g·x̂)).
//!
//! Operands: dy like x, x [.., G·D], w [D], rstd [.., G]. Result: dx like x.

use super::rms_norm::{RmsNorm, groups, offset};
use super::{Op, OpDef, is_false, operands, same, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `rms_norm_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNormGrad {
    /// Whether the forward's factor is 1 + w; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unit_offset: bool,
}

impl OpDef for RmsNormGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 4)?;
        let groups = groups(inputs[1], inputs[2])?;
        same(("dy", inputs[0]), ("x", inputs[1]))?;
        typed("rstd", inputs[3], DType::F32, &inputs[1].shape.with_last(groups))?;
        Ok(vec![inputs[1].clone()])
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1, 3])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::RmsNormGrad
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("rms_norm_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(8.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, x, w, rstd) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let (width, offset) = (w.data.len(), offset(self.unit_offset));
        let mut dx = Array::zeros(x.shape.clone());
        for (group, &r) in rstd.data.iter().enumerate() {
            let at = group * width;
            let g = |i: usize| dy.data[at + i] * (offset + w.data[i]);
            let mean = (0..width).map(|i| g(i) * x.data[at + i] * r).sum::<f64>() / width as f64;
            for i in 0..width {
                dx.data[at + i] = r * (g(i) - x.data[at + i] * r * mean);
            }
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let with_statistic = |forward: Sample| {
            let Op::RmsNorm(RmsNorm { unit_offset, .. }) = forward.op else { unreachable!("a sample of rms_norm") };
            let dy = Sample::new(RmsNormGrad { unit_offset }).normal(forward.types[0].shape.clone());
            dy.operand(&forward, 0).operand(&forward, 1).array(&forward.eval()[1])
        };
        RmsNorm::samples().into_iter().map(with_statistic).collect()
    }
}
