//! `slice_rows`: some rows of a value, one after the other. Rows are all axes but the last, flattened.
//!
//! Operand: x [.., D]. Result: rows [rows, D], of x's dtype. A planner's op: it cuts what differentiation has made.

use super::{OpDef, float, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `slice_rows`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SliceRows {
    /// The first row that is taken.
    pub first: usize,
    /// How many are.
    pub rows: usize,
}

/// Refuses rows that are not there.
pub(super) fn within(name: &str, x: &Type, first: usize, rows: usize) -> Result<(), String> {
    let fits = first.checked_add(rows).is_some_and(|end| end <= x.shape.rows());
    if fits && rows > 0 { Ok(()) } else { Err(format!("{name} {x} has no {rows} rows from row {first} on")) }
}

impl OpDef for SliceRows {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        float("x", inputs[0])?;
        within("x", inputs[0], self.first, self.rows)?;
        Ok(vec![Type::new(inputs[0].dtype, [self.rows, inputs[0].shape.last()])])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("slice_rows", "rows are cut after differentiation"))
    }

    /// Only the rows that are taken move.
    fn cost(&self, _inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, outputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let width = inputs[0].shape.last();
        let taken = &inputs[0].data[self.first * width..(self.first + self.rows) * width];
        vec![Array::new(results[0].shape.clone(), taken.to_vec())]
    }

    fn samples() -> Vec<Sample> {
        let of = |first, rows, shape: [usize; 3]| Sample::new(SliceRows { first, rows }).normal(shape);
        vec![of(0, 1, [1, 1, 5]), of(2, 9, [2, 7, 33]), of(5, 2, [1, 7, 1])]
    }
}
