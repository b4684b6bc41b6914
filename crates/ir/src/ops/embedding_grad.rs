//! `embedding_grad`: the gradient of an embedding's table: dtable[v] = Σ over the tokens with id v of dy, in f32.
//!
//! Operands: dy [.., D], ids i32 [..], then, if `accumulate`, the gradient state [rows, D] that the sum is added onto in
//! place. Result: dtable f32 [rows, D]. Executors add the tokens of a row in ascending order.

use super::embedding::{Embedding, row_of};
use super::{Op, OpDef, float, integer, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `embedding_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmbeddingGrad {
    /// Number of rows of the table.
    pub rows: usize,
    /// Whether the last operand is a gradient state to add onto.
    pub accumulate: bool,
}

impl OpDef for EmbeddingGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2 + usize::from(self.accumulate))?;
        let (dy, ids) = (inputs[0], inputs[1]);
        float("dy", dy)?;
        integer("ids", ids)?;
        if dy.shape.split_last().is_none_or(|(_, outer)| outer != ids.shape.dims()) {
            return Err(format!("dy {dy} must have the axes of ids {ids} and one more"));
        }
        let shape = [self.rows, dy.shape.last()];
        if self.accumulate {
            typed("the gradient", inputs[2], DType::F32, &shape)?;
        }
        Ok(vec![Type::new(DType::F32, shape)])
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        if self.accumulate { vec![(2, 0)] } else { Vec::new() }
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (!self.accumulate).then(|| (EmbeddingGrad { accumulate: true, ..self.clone() }.into(), 0))
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("embedding_grad", "second derivatives are not supported"))
    }

    /// Of a state only the rows of the ids move; without one all of the table is written first.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let table = if self.accumulate { 0 } else { outputs[0].bytes() };
        let sums = Type::new(outputs[0].dtype, inputs[0].shape.clone());
        Cost::new(inputs[0].shape.numel() as f64, &[inputs[0], inputs[1], &sums], &[&sums]).with_bytes(table)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (dy, ids) = (inputs[0], inputs[1]);
        let mut grad = if self.accumulate { inputs[2].clone() } else { Array::zeros(results[0].shape.clone()) };
        for (n, &id) in ids.data.iter().enumerate() {
            if let Some(row) = row_of(id, self.rows) {
                grad.row_mut(row).iter_mut().zip(dy.row(n)).for_each(|(sum, d)| *sum += d);
            }
        }
        vec![grad]
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in Embedding::samples() {
            let table = forward.types[0].shape.clone();
            let dy = forward.types[1].shape.iter().copied().chain([table.last()]).collect::<Vec<_>>();
            let operands = |accumulate| {
                let op = EmbeddingGrad { rows: table[0], accumulate };
                Sample::new(op).normal(dy.clone()).operand(&forward, 1)
            };
            samples.extend([operands(false), operands(true).normal(table.clone())]);
        }
        samples
    }
}
