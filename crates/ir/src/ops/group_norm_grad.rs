//! `group_norm_grad`: dx of `group_norm`. With x̂ = (x − mean)·rstd, g = dy·w and means over the group:
//! dx = rstd · (g − mean(g) − x̂ · mean(g·x̂)).
//!
//! Operands: dy like x, x [B, C, ..], w [C], mean and rstd f32 [B, groups]. Result: dx like x.

use super::group_norm::{GroupNorm, fit};
use super::{OpDef, operands, same, typed};
use crate::{Array, Cost, IrError, Op, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `group_norm_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GroupNormGrad {
    /// Groups of channels; divides C.
    pub groups: usize,
}

/// rstd · (g − mean(g) − x̂ · mean(g·x̂)) of each element of what shares its statistics.
pub(super) fn through_statistics(g: &[f64], normed: &[f64], rstd: f64) -> Vec<f64> {
    let count = g.len() as f64;
    let mean_g = g.iter().sum::<f64>() / count;
    let mean_gx = g.iter().zip(normed).map(|(g, x)| g * x).sum::<f64>() / count;
    g.iter().zip(normed).map(|(g, x)| rstd * (g - mean_g - x * mean_gx)).collect()
}

impl OpDef for GroupNormGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 5)?;
        let (dy, x) = (inputs[0], inputs[1]);
        let [batch, channels, _] = fit(self.groups, x)?;
        same(("dy", dy), ("x", x))?;
        typed("weight", inputs[2], x.dtype, &[channels])?;
        typed("mean", inputs[3], DType::F32, &[batch, self.groups])?;
        typed("rstd", inputs[4], DType::F32, &[batch, self.groups])?;
        Ok(vec![x.clone()])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::LayerNormGrad
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("group_norm_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(11.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, x, w, mean, rstd) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]);
        let size = x.data.len() / mean.data.len();
        let places = size / (w.data.len() / self.groups);
        let mut dx = Array::zeros(x.shape.clone());
        for (set, dx) in dx.data.chunks_exact_mut(size).enumerate() {
            let first = set * size;
            // The channel of an element, over all images.
            let weight = |i: usize| w.data[(first + i) / places % w.data.len()];
            let g: Vec<f64> = (0..size).map(|i| dy.data[first + i] * weight(i)).collect();
            let (m, r) = (mean.data[set], rstd.data[set]);
            let normed: Vec<f64> = x.data[first..first + size].iter().map(|x| (x - m) * r).collect();
            dx.copy_from_slice(&through_statistics(&g, &normed, r));
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let with_statistics = |forward: Sample| {
            let Op::GroupNorm(GroupNorm { groups, .. }) = forward.op else { unreachable!("these are of group_norm") };
            let results = forward.eval();
            let dy = Sample::new(GroupNormGrad { groups }).normal(forward.types[0].shape.clone());
            dy.operand(&forward, 0).operand(&forward, 1).array(&results[1]).array(&results[2])
        };
        GroupNorm::samples().into_iter().map(with_statistics).collect()
    }
}
