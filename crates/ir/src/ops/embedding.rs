//! `embedding`: y[n] = table[ids[n]].
//!
//! Operands: table [V, D], ids i32 [..]. Result: y [.., D] of the table's dtype. Ids are checked where batches are made;
//! an id outside [0, V) has no meaning, and gives NaN here.

use super::{EmbeddingGrad, OpDef, float, integer, operands, rank};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// `embedding` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Embedding;

/// The row of a table that an id names, if there is one.
pub(super) fn row_of(id: f64, rows: usize) -> Option<usize> {
    (id >= 0.0 && id < rows as f64).then_some(id as usize)
}

impl OpDef for Embedding {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (table, ids) = (inputs[0], inputs[1]);
        float("table", table)?;
        rank("table", table, 2)?;
        integer("ids", ids)?;
        let mut shape = ids.shape.to_vec();
        shape.push(table.shape.last());
        Ok(vec![Type::new(table.dtype, shape)])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn looks_up(&self) -> Option<(usize, usize)> {
        Some((0, 1))
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("embedding")?;
        let rows = cx.builder.ty(cx.inputs[0]).shape[0];
        let mut cotangents = vec![None; 2];
        if cx.needs[0] {
            let grad = EmbeddingGrad { rows, accumulate: false };
            cotangents[0] = Some(cx.emit1("dw", grad, &[dy, cx.inputs[1]])?);
        }
        Ok(cotangents)
    }

    /// Only the rows that are read count, not the table.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, &[inputs[1], outputs[0]], outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (table, ids) = (inputs[0], inputs[1]);
        let mut y = Array::zeros(results[0].shape.clone());
        for (n, &id) in ids.data.iter().enumerate() {
            match row_of(id, table.rows()) {
                Some(row) => y.row_mut(n).copy_from_slice(table.row(row)),
                None => y.row_mut(n).fill(f64::NAN),
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        [(7, 5, [1, 3]), (33, 17, [2, 40]), (3, 64, [1, 1])]
            .into_iter()
            .map(|(rows, width, ids)| Sample::new(Embedding).normal([rows, width]).ids(ids, rows as u32))
            .collect()
    }
}
