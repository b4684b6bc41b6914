//! `bias_grad`: the gradient of a bias, db = Σ over rows of dy, in f32.
//!
//! Operands: dy [.., O], then, if `accumulate`, the gradient state [O] that the sum is added onto in place.
//! Result: db f32 [O].

use super::{Op, OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `bias_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BiasGrad {
    /// Whether the last operand is a gradient state to add onto.
    pub accumulate: bool,
}

impl OpDef for BiasGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1 + usize::from(self.accumulate))?;
        let dy = inputs[0];
        float("dy", dy)?;
        let width = dy.shape.last();
        if self.accumulate {
            typed("the gradient", inputs[1], DType::F32, &[width])?;
        }
        Ok(vec![Type::new(DType::F32, [width])])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(1, 0)] } else { Vec::new() }
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        self.accumulate.then(|| vec![0])
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (BiasGrad { accumulate: true }.into(), 0))
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("bias_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let dy = inputs[0];
        let mut db = if self.accumulate { inputs[1].clone() } else { Array::zeros(results[0].shape.clone()) };
        for n in 0..dy.rows() {
            db.data.iter_mut().zip(dy.row(n)).for_each(|(sum, d)| *sum += d);
        }
        vec![db]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for (rows, width) in [(1, 1), (6, 7), (35, 19), (300, 18)] {
            let operands = |accumulate| Sample::new(BiasGrad { accumulate }).normal([1, rows, width]);
            samples.extend([operands(false), operands(true).normal([width])]);
        }
        samples
    }
}
