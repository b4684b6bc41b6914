//! `rms_norm`: y = x · rstd · w, or x · rstd · (1 + w), with rstd = 1/√(mean(x²) + eps), over groups of the last axis as wide
//! as w.
//!
//! Operands: x [.., G·D], w [D]. Results: y like x; rstd [.., G] in f32, a residual. G > 1 is the per-head norm of q
//! and k. Zhang and Sennrich, *Root mean square layer normalization*, 2019; transformers' LlamaRMSNorm.

use super::{OpDef, RmsNormDw, RmsNormGrad, epsilon, float, is_false, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `rms_norm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RmsNorm {
    /// Added to the mean square.
    pub eps: f32,
    /// Whether the factor is 1 + w, as in Gemma, and not w; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub unit_offset: bool,
}

/// What w is added to.
pub(super) fn offset(unit_offset: bool) -> f64 {
    if unit_offset { 1.0 } else { 0.0 }
}

/// Number of groups of w's width in x's last axis, or what does not fit.
pub(super) fn groups(x: &Type, w: &Type) -> Result<usize, String> {
    float("x", x)?;
    float("weight", w)?;
    if w.shape.len() != 1 || !x.shape.last().is_multiple_of(w.shape.last()) {
        return Err(format!("weight {w} does not match the last axis of x {x}"));
    }
    Ok(x.shape.last() / w.shape.last())
}

impl OpDef for RmsNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        epsilon(self.eps)?;
        let groups = groups(inputs[0], inputs[1])?;
        Ok(vec![inputs[0].clone(), Type::new(DType::F32, inputs[0].shape.with_last(groups))])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["y", "rstd"][index]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::RmsNorm
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("rms_norm")?;
        let (x, w, rstd) = (cx.inputs[0], cx.inputs[1], cx.outputs[1]);
        let mut cotangents = vec![None; 2];
        if cx.needs[1] {
            // The width of the gradient is that of w; the shapes of x and rstd tell it.
            cotangents[1] = Some(cx.emit1("dw", RmsNormDw { accumulate: false }, &[dy, x, rstd])?);
        }
        if cx.needs[0] {
            cotangents[0] = Some(cx.emit1("dx", RmsNormGrad { unit_offset: self.unit_offset }, &[dy, x, w, rstd])?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(4.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, w) = (inputs[0], inputs[1]);
        let (width, offset) = (w.data.len(), offset(self.unit_offset));
        let mut y = Array::zeros(x.shape.clone());
        let mut rstd = Array::zeros(results[1].shape.clone());
        for (group, r) in rstd.data.iter_mut().enumerate() {
            let row = &x.data[group * width..(group + 1) * width];
            let mean_square = row.iter().map(|v| v * v).sum::<f64>() / width as f64;
            *r = 1.0 / (mean_square + f64::from(self.eps)).sqrt();
            for (i, v) in row.iter().enumerate() {
                y.data[group * width + i] = v * *r * (offset + w.data[i]);
            }
        }
        vec![y, rstd]
    }

    fn samples() -> Vec<Sample> {
        let shapes = [(5, 7, 1), (3, 64, 1), (2, 130, 1), (4, 16, 3)];
        let of = |unit_offset: bool, (rows, width, groups): (usize, usize, usize)| {
            Sample::new(RmsNorm { eps: 1e-5, unit_offset })
                .normal([1, rows, groups * width])
                .normal_around([width], if unit_offset { 0.0 } else { 1.0 }, 0.2)
        };
        let plain = shapes.into_iter().map(|shape| of(false, shape));
        plain.chain([shapes[0], shapes[3]].into_iter().map(|shape| of(true, shape))).collect()
    }
}
