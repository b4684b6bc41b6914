//! `column_scale_dw`: the gradient of the factors of `column_scale`, dw = Σ over rows of dy ⊙ x / norm, in f32.
//!
//! Operands: dy [.., O], x [.., O], norm f32 [O], then, if `accumulate`, the gradient state [O] that the sum is added onto in
//! place. Result: dw f32 [O].

use super::{Op, OpDef, float, operands, same, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `column_scale_dw`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnScaleDw {
    /// Whether the last operand is a gradient state to add onto.
    pub accumulate: bool,
}

impl OpDef for ColumnScaleDw {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3 + usize::from(self.accumulate))?;
        let (dy, x) = (inputs[0], inputs[1]);
        float("dy", dy)?;
        same(("dy", dy), ("x", x))?;
        let width = dy.shape.last();
        typed("norm", inputs[2], DType::F32, &[width])?;
        if self.accumulate {
            typed("the gradient", inputs[3], DType::F32, &[width])?;
        }
        Ok(vec![Type::new(DType::F32, [width])])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(3, 0)] } else { Vec::new() }
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        self.accumulate.then(|| vec![0, 1])
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (ColumnScaleDw { accumulate: true }.into(), 0))
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("column_scale_dw", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(3.0 * inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, x, norm) = (inputs[0], inputs[1], inputs[2]);
        let mut dw = if self.accumulate { inputs[3].clone() } else { Array::zeros(results[0].shape.clone()) };
        for n in 0..dy.rows() {
            for (o, sum) in dw.data.iter_mut().enumerate() {
                *sum += dy.row(n)[o] * x.row(n)[o] / norm.data[o];
            }
        }
        vec![dw]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (rows, width) in [(1, 1), (6, 7), (35, 19), (300, 18)] {
            let norms = (0..width).map(|o| 1.5 + (o as f64).sin()).collect();
            let plain = Sample::new(ColumnScaleDw { accumulate: false }).normal([1, rows, width]);
            let plain = plain.normal([1, rows, width]).f32([width], norms);
            let onto = Sample { op: ColumnScaleDw { accumulate: true }.into(), ..plain.clone() }.normal([width]);
            samples.extend([plain, onto]);
        }
        samples
    }
}
