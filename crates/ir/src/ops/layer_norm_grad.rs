//! `layer_norm_grad`: dx of `layer_norm`. With x̂ = (x − mean)·rstd and g = dy·w:
//! dx = rstd · (g − mean(g) − x̂ · mean(g·x̂)).
//!
//! Operands: dy like x, x [.., D], w [D], mean and rstd f32 [.., 1]. Result: dx like x.

use super::layer_norm::{LayerNorm, width_of};
use super::{OpDef, float, operands, same, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `layer_norm_grad` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerNormGrad;

impl OpDef for LayerNormGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 5)?;
        let (dy, x) = (inputs[0], inputs[1]);
        float("x", x)?;
        same(("dy", dy), ("x", x))?;
        width_of("weight", inputs[2], x)?;
        typed("mean", inputs[3], DType::F32, &x.shape.with_last(1))?;
        typed("rstd", inputs[4], DType::F32, &x.shape.with_last(1))?;
        Ok(vec![x.clone()])
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1, 3, 4])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::LayerNormGrad
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..3
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("layer_norm_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(11.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, x, w, mean, rstd) = (inputs[0], inputs[1], inputs[2], inputs[3], inputs[4]);
        let width = w.data.len();
        let mut dx = Array::zeros(x.shape.clone());
        for n in 0..x.rows() {
            let (m, r) = (mean.data[n], rstd.data[n]);
            let normed: Vec<f64> = x.row(n).iter().map(|v| (v - m) * r).collect();
            let g: Vec<f64> = dy.row(n).iter().zip(&w.data).map(|(d, w)| d * w).collect();
            let mean_g = g.iter().sum::<f64>() / width as f64;
            let mean_gx = g.iter().zip(&normed).map(|(g, v)| g * v).sum::<f64>() / width as f64;
            for (i, d) in dx.row_mut(n).iter_mut().enumerate() {
                *d = r * (g[i] - mean_g - normed[i] * mean_gx);
            }
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let with_statistics = |forward: Sample| {
            let results = forward.eval();
            let dy = Sample::new(LayerNormGrad).normal(forward.types[0].shape.clone());
            dy.operand(&forward, 0).operand(&forward, 1).array(&results[1]).array(&results[2])
        };
        LayerNorm::samples().into_iter().map(with_statistics).collect()
    }
}
