//! `batch_norm`: y = (x − mean)·w/√(variance + eps) + b by channel: with mean and variance over all images and places of this
//! batch, or, if `running`, with those that are given, as evaluation does. As torch.nn.functional.batch_norm.
//!
//! Operands: x [B, C, ..], w [C], b [C], then, if `running`, mean and variance f32 [C]. Results: y like x, and, unless
//! `running`, mean and variance f32 [C], the biased one; residuals, and what `batch_norm_update` reads. Ioffe and Szegedy,
//! *Batch normalization*, 2015.

use super::group_norm::{channels_of, mean_and_variance};
use super::{BatchNormDw, BatchNormGrad, OpDef, epsilon, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `batch_norm`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance.
    pub eps: f32,
    /// Whether mean and variance are operands.
    pub running: bool,
}

/// The elements of one channel, by image and place, of a tensor [B, C, ..].
pub(super) fn of_channel(x: &Array, channel: usize) -> impl Iterator<Item = usize> + use<> {
    let (batch, channels) = (x.shape[0], x.shape[1]);
    let places = x.data.len() / (batch * channels);
    (0..batch * places).map(move |i| (i / places * channels + channel) * places + i % places)
}

/// 1/√(variance + eps).
pub(super) fn rstd_of(variance: f64, eps: f32) -> f64 {
    1.0 / (variance + f64::from(eps)).sqrt()
}

impl OpDef for BatchNorm {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, if self.running { 5 } else { 3 })?;
        epsilon(self.eps)?;
        let (x, [batch, channels, places]) = (inputs[0], channels_of("x", inputs[0])?);
        typed("weight", inputs[1], x.dtype, &[channels])?;
        typed("bias", inputs[2], x.dtype, &[channels])?;
        if self.running {
            typed("mean", inputs[3], DType::F32, &[channels])?;
            typed("variance", inputs[4], DType::F32, &[channels])?;
            return Ok(vec![x.clone()]);
        }
        if batch * places == 1 {
            return Err(format!("x {x} has one element in each channel: there is no variance to train with"));
        }
        let statistic = Type::new(DType::F32, [channels]);
        Ok(vec![x.clone(), statistic.clone(), statistic])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["y", "mean", "variance"][index]
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::LayerNorm
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("batch_norm")?;
        let (x, w, running) = (cx.inputs[0], cx.inputs[1], self.running);
        let mut cotangents = vec![None; cx.inputs.len()];
        let [mean, variance] = if running { [cx.inputs[3], cx.inputs[4]] } else { [cx.outputs[1], cx.outputs[2]] };
        if running && (cx.needs[3] || cx.needs[4]) {
            return Err(cx.refuse("batch_norm", "running statistics cannot be trained; make them buffers"));
        }
        if cx.needs[1] || cx.needs[2] {
            let op = BatchNormDw { eps: self.eps, accumulate: false };
            let grads = cx.emit("dw", op, &[dy, x, mean, variance])?;
            cotangents[1] = cx.needs[1].then_some(grads[0]);
            cotangents[2] = cx.needs[2].then_some(grads[1]);
        }
        if cx.needs[0] {
            let op = BatchNormGrad { eps: self.eps, running };
            // Given statistics do not depend on x, and neither does the slope.
            let inputs = if running { vec![dy, w, variance] } else { vec![dy, x, w, mean, variance] };
            cotangents[0] = Some(cx.emit1("dx", op, &inputs)?);
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(if self.running { 4.0 } else { 8.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, w, b) = (inputs[0], inputs[1], inputs[2]);
        let mut y = x.clone();
        let [mut mean, mut variance] = [(); 2].map(|()| Array::zeros(w.shape.clone()));
        for channel in 0..w.data.len() {
            let values: Vec<f64> = of_channel(x, channel).map(|at| x.data[at]).collect();
            let (m, v) = match self.running {
                true => (inputs[3].data[channel], inputs[4].data[channel]),
                false => mean_and_variance(&values),
            };
            (mean.data[channel], variance.data[channel]) = (m, v);
            for at in of_channel(x, channel) {
                y.data[at] = (x.data[at] - m) * rstd_of(v, self.eps) * w.data[channel] + b.data[channel];
            }
        }
        [y, mean, variance].into_iter().take(results.len()).collect()
    }

    /// Images; a mean far from zero; rows without places; the same with statistics that are given.
    fn samples() -> Vec<Sample> {
        let of = |running, shape: &[usize], mean| {
            let sample = Sample::new(BatchNorm { eps: 1e-5, running }).normal_around(shape, mean, 1.0);
            let sample = sample.normal_around([shape[1]], 1.0, 0.3).normal([shape[1]]);
            if running { sample.normal([shape[1]]).normal_around([shape[1]], 1.5, 0.1) } else { sample }
        };
        let shapes: [(&[usize], f32); 4] = [(&[2, 3, 4, 5], 0.0), (&[3, 6, 17], 3.0), (&[9, 20], 0.0), (&[1, 2, 70], 0.5)];
        [false, true].into_iter().flat_map(|running| shapes.map(|(shape, mean)| of(running, shape, mean))).collect()
    }
}
