//! `write_rows`: a value with some of its rows replaced. Rows are all axes but the last, flattened.
//!
//! Operands: x [.., D], rows [r, D]. Result: y like x. A planner's op: tiles of a value are put together by it, in place.

use super::slice_rows::within;
use super::{OpDef, float, operands, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `write_rows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WriteRows {
    /// The first row that is replaced.
    pub first: usize,
}

impl OpDef for WriteRows {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (x, rows) = (inputs[0], inputs[1]);
        float("x", x)?;
        within("x", x, self.first, rows.shape.rows())?;
        typed("rows", rows, x.dtype, &[rows.shape.rows(), x.shape.last()])?;
        Ok(vec![x.clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("write_rows", "rows are cut after differentiation"))
    }

    /// In place, as planners use it: only the rows that are replaced move.
    fn cost(&self, inputs: &[&Type], _outputs: &[&Type]) -> Cost {
        Cost::new(0.0, &inputs[1..], &inputs[1..])
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let mut y = inputs[0].clone();
        let from = self.first * y.shape.last();
        y.data[from..from + inputs[1].data.len()].copy_from_slice(&inputs[1].data);
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |first, rows, [b, t, d]: [usize; 3]| {
            Sample::new(WriteRows { first }).normal([b, t, d]).normal([rows, d])
        };
        vec![of(0, 1, [1, 1, 5]), of(2, 9, [2, 7, 33]), of(5, 2, [1, 7, 1]), of(0, 300, [1, 700, 70])]
    }
}
