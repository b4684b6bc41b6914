//! `selection`: columns of the identity: y[v, j] is 1 where v is `chosen[j]`, else 0.
//!
//! No operands. Result: y [rows, the number of chosen ones], of the dtype given. A product with it takes rows of a table, or
//! puts values into their columns, exactly: all other terms are zero.

use super::zeros::dtype_name;
use super::{OpDef, operands};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Attributes of `selection`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Selection {
    /// Element type: f32 or bf16.
    #[serde(with = "dtype_name")]
    pub dtype: DType,
    /// V: rows of the identity.
    pub rows: usize,
    /// The columns that are taken, each below `rows`.
    pub chosen: Vec<usize>,
}

impl OpDef for Selection {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 0)?;
        if ![DType::F32, DType::BF16].contains(&self.dtype) {
            return Err(format!("attribute dtype = {} must be f32 or bf16", self.dtype.name()));
        }
        if let Some(row) = self.chosen.iter().find(|row| **row >= self.rows) {
            return Err(format!("attribute chosen holds {row}, and there are {} rows", self.rows));
        }
        Ok(vec![Type::new(self.dtype, [self.rows, self.chosen.len()])])
    }

    /// A constant: there is no operand to pass a cotangent to.
    fn vjp(&self, _cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Ok(Vec::new())
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(0.0, inputs, outputs)
    }

    fn eval(&self, _inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let mut y = Array::zeros(results[0].shape.clone());
        for (column, &row) in self.chosen.iter().enumerate() {
            y.row_mut(row)[column] = 1.0;
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |dtype, rows, chosen: &[usize]| Sample::new(Selection { dtype, rows, chosen: chosen.to_vec() });
        vec![of(DType::F32, 1, &[0]), of(DType::F32, 37, &[36, 0, 7, 7]), of(DType::BF16, 5, &[4, 1])]
    }
}
