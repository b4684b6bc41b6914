//! `layer_norm`: y = (x − mean) · rstd · w + b over the last axis, with rstd = 1/√(variance + eps).
//!
//! Operands: x [.., D], w [D], b [D]. Results: y like x; mean and rstd f32 [.., 1], residuals. The variance is the biased
//! one. Ba, Kiros and Hinton, *Layer normalization*, 2016; torch.nn.LayerNorm.

use super::{LayerNormDw, LayerNormGrad, OpDef, epsilon, float, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `layer_norm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Added to the variance.
    pub eps: f32,
}

/// Refuses a parameter that is not a vector as wide as x.
pub(super) fn width_of(name: &str, parameter: &Type, x: &Type) -> Result<(), String> {
    float(name, parameter)?;
    if parameter.shape.dims() == [x.shape.last()] {
        Ok(())
    } else {
        Err(format!("{name} {parameter} does not match the last axis of x {x}"))
    }
}

impl OpDef for LayerNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        epsilon(self.eps)?;
        let x = inputs[0];
        float("x", x)?;
        width_of("weight", inputs[1], x)?;
        width_of("bias", inputs[2], x)?;
        let statistic = Type::new(DType::F32, x.shape.with_last(1));
        Ok(vec![x.clone(), statistic.clone(), statistic])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["y", "mean", "rstd"][index]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::LayerNorm
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("layer_norm")?;
        let (x, w) = (cx.inputs[0], cx.inputs[1]);
        let (mean, rstd) = (cx.outputs[1], cx.outputs[2]);
        let mut cotangents = vec![None; 3];
        if cx.needs[1] || cx.needs[2] {
            let grads = cx.emit("dw", LayerNormDw { accumulate: false }, &[dy, x, mean, rstd])?;
            cotangents[1] = cx.needs[1].then_some(grads[0]);
            cotangents[2] = cx.needs[2].then_some(grads[1]);
        }
        if cx.needs[0] {
            cotangents[0] = Some(cx.emit1("dx", LayerNormGrad, &[dy, x, w, mean, rstd])?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(7.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, w, b) = (inputs[0], inputs[1], inputs[2]);
        let width = w.data.len();
        let mut y = Array::zeros(x.shape.clone());
        let mut mean = Array::zeros(results[1].shape.clone());
        let mut rstd = Array::zeros(results[2].shape.clone());
        for n in 0..x.rows() {
            let row = x.row(n);
            let m = row.iter().sum::<f64>() / width as f64;
            let variance = row.iter().map(|v| (v - m) * (v - m)).sum::<f64>() / width as f64;
            let r = 1.0 / (variance + f64::from(self.eps)).sqrt();
            for (i, y) in y.row_mut(n).iter_mut().enumerate() {
                *y = (row[i] - m) * r * w.data[i] + b.data[i];
            }
            (mean.data[n], rstd.data[n]) = (m, r);
        }
        vec![y, mean, rstd]
    }

    /// The mean of x is far from 0, so that a kernel that cancels badly is seen.
    fn samples() -> Vec<Sample> {
        [(5, 7), (3, 64), (2, 130), (40, 33)]
            .into_iter()
            .map(|(rows, width)| {
                Sample::new(LayerNorm { eps: 1e-5 })
                    .normal_around([1, rows, width], 1.5, 1.0)
                    .normal_around([width], 1.0, 0.2)
                    .normal_around([width], 0.0, 0.2)
            })
            .collect()
    }
}
