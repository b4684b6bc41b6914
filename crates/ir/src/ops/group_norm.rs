//! `group_norm`: y = (x − mean)·rstd·w + b, with mean and rstd = 1/√(variance + eps) over all elements of a group of channels
//! of one image; w and b by channel. One group for each channel is instance norm. As torch.nn.functional.group_norm.
//!
//! Operands: x [B, C, ..], w [C], b [C]. Results: y like x; mean and rstd f32 [B, groups], residuals. Wu and He, *Group
//! normalization*, 2018.

use super::{GroupNormDw, GroupNormGrad, OpDef, epsilon, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `group_norm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Groups of channels; divides C.
    pub groups: usize,
    /// Added to the variance.
    pub eps: f32,
}

/// B, C, and the elements of one channel of one image.
pub(super) fn channels_of(name: &str, x: &Type) -> Result<[usize; 3], String> {
    float(name, x)?;
    match x.shape.dims() {
        [batch, channels, places @ ..] => Ok([*batch, *channels, places.iter().product()]),
        _ => Err(format!("{name} {x} must have a batch axis and one of channels")),
    }
}

/// Refuses groups that do not divide the channels of x.
pub(super) fn fit(groups: usize, x: &Type) -> Result<[usize; 3], String> {
    let sizes = channels_of("x", x)?;
    if groups == 0 || !sizes[1].is_multiple_of(groups) {
        return Err(format!("attribute groups = {groups} does not divide the channels of x {x}"));
    }
    Ok(sizes)
}

/// The mean of some numbers and their mean square distance from it.
pub(super) fn mean_and_variance(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    (mean, values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / values.len() as f64)
}

impl OpDef for GroupNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        epsilon(self.eps)?;
        let (x, [batch, channels, _]) = (inputs[0], fit(self.groups, inputs[0])?);
        typed("weight", inputs[1], x.dtype, &[channels])?;
        typed("bias", inputs[2], x.dtype, &[channels])?;
        let statistic = Type::new(DType::F32, [batch, self.groups]);
        Ok(vec![x.clone(), statistic.clone(), statistic])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["y", "mean", "rstd"][index]
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::LayerNorm
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("group_norm")?;
        let (x, w, mean, rstd) = (cx.inputs[0], cx.inputs[1], cx.outputs[1], cx.outputs[2]);
        let mut cotangents = vec![None; 3];
        if cx.needs[1] || cx.needs[2] {
            let op = GroupNormDw { groups: self.groups, accumulate: false };
            let grads = cx.emit("dw", op, &[dy, x, mean, rstd])?;
            cotangents[1] = cx.needs[1].then_some(grads[0]);
            cotangents[2] = cx.needs[2].then_some(grads[1]);
        }
        if cx.needs[0] {
            let op = GroupNormGrad { groups: self.groups };
            cotangents[0] = Some(cx.emit1("dx", op, &[dy, x, w, mean, rstd])?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(8.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (mut y, w, b) = (inputs[0].clone(), inputs[1], inputs[2]);
        let channels = w.data.len();
        let [mut mean, mut rstd] = [1, 2].map(|result: usize| Array::zeros(results[result].shape.clone()));
        let size = y.data.len() / mean.data.len();
        let places = size / (channels / self.groups);
        for (set, y) in y.data.chunks_exact_mut(size).enumerate() {
            let (m, variance) = mean_and_variance(y);
            let r = 1.0 / (variance + f64::from(self.eps)).sqrt();
            (mean.data[set], rstd.data[set]) = (m, r);
            for (i, y) in y.iter_mut().enumerate() {
                let channel = set % self.groups * (channels / self.groups) + i / places;
                *y = (*y - m) * r * w.data[channel] + b.data[channel];
            }
        }
        vec![y, mean, rstd]
    }

    /// One group, some, one for each channel; a mean far from zero; no places at all.
    fn samples() -> Vec<Sample> {
        let of = |groups, shape: &[usize], mean| {
            let sample = Sample::new(GroupNorm { groups, eps: 1e-5 }).normal_around(shape, mean, 1.0);
            sample.normal_around([shape[1]], 1.0, 0.3).normal([shape[1]])
        };
        vec![
            of(1, &[2, 4, 3, 5], 0.0),
            of(2, &[3, 6, 17], 0.5),
            of(4, &[2, 4, 5, 9], 3.0),
            of(2, &[5, 8], 0.0),
            of(3, &[1, 6, 2, 3, 11], 0.0),
        ]
    }
}
