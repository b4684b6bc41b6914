//! `layer_norm_dw`: the parameters' gradients, dw = Σ over rows of dy · (x − mean) · rstd and db = Σ dy, in f32.
//!
//! Operands: dy like x, x [.., D], mean and rstd f32 [.., 1], then, if `accumulate`, the two gradient states [D] that the
//! sums are added onto in place. Results: dw, db f32 [D].

use super::layer_norm::LayerNorm;
use super::{Op, OpDef, float, operands, same, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `layer_norm_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerNormDw {
    /// Whether the last two operands are gradient states to add onto.
    pub accumulate: bool,
}

impl OpDef for LayerNormDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, if self.accumulate { 6 } else { 4 })?;
        let (dy, x) = (inputs[0], inputs[1]);
        float("x", x)?;
        same(("dy", dy), ("x", x))?;
        typed("mean", inputs[2], DType::F32, &x.shape.with_last(1))?;
        typed("rstd", inputs[3], DType::F32, &x.shape.with_last(1))?;
        let width = x.shape.last();
        if self.accumulate {
            typed("the weight's gradient", inputs[4], DType::F32, &[width])?;
            typed("the bias's gradient", inputs[5], DType::F32, &[width])?;
        }
        Ok(vec![Type::new(DType::F32, [width]); 2])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["dw", "db"][index]
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(4, 0), (5, 1)] } else { Vec::new() }
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        self.accumulate.then(|| vec![0, 1, 2, 3])
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (LayerNormDw { accumulate: true }.into(), 0))
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("layer_norm_dw", "second derivatives are not supported"))
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
        for n in 0..x.rows() {
            for (i, (d, v)) in dy.row(n).iter().zip(x.row(n)).enumerate() {
                dw.data[i] += d * (v - mean.data[n]) * rstd.data[n];
                db.data[i] += d;
            }
        }
        vec![dw, db]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in LayerNorm::samples() {
            let results = forward.eval();
            let operands = |accumulate| {
                let dy = Sample::new(LayerNormDw { accumulate }).normal(forward.types[0].shape.clone());
                dy.operand(&forward, 0).array(&results[1]).array(&results[2])
            };
            let width = forward.types[1].shape.last();
            samples.extend([operands(false), operands(true).normal([width]).normal([width])]);
        }
        samples
    }
}
