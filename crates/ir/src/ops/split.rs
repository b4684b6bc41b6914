//! `split`: cuts the last axis into pieces.
//!
//! Operand: x [.., Σ sizes]. Results: one piece [.., size] each, of x's dtype. The derivative is `concat`.

use super::{Concat, OpDef, Zeros, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Sizes of the pieces along the last axis.
    pub sizes: Vec<usize>,
}

impl OpDef for Split {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let x = inputs[0];
        if self.sizes.is_empty() || self.sizes.contains(&0) {
            return Err(format!("attribute sizes = {:?} must be positive numbers, at least one", self.sizes));
        }
        let total = self.sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if total != Some(x.shape.last()) {
            return Err(format!("attribute sizes = {:?} does not add up to the last axis of x {x}", self.sizes));
        }
        Ok(self.sizes.iter().map(|&size| Type::new(x.dtype, x.shape.with_last(size))).collect())
    }

    fn result_name(&self, index: usize) -> &'static str {
        const NAMES: [&str; 8] = ["0", "1", "2", "3", "4", "5", "6", "7"];
        NAMES.get(index).copied().unwrap_or("piece")
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        if !cx.needs[0] {
            return Ok(vec![None]);
        }
        let mut pieces = Vec::with_capacity(cx.outputs.len());
        for (index, &cotangent) in cx.cotangents.iter().enumerate() {
            let ty = cx.builder.ty(cx.outputs[index]).clone();
            pieces.push(match cotangent {
                Some(dy) => dy,
                None => cx.emit1("zeros", Zeros { dtype: ty.dtype, shape: ty.shape.to_vec() }, &[])?,
            });
        }
        Ok(vec![Some(cx.emit1("dx", Concat, &pieces)?)])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let x = inputs[0];
        let mut start = 0;
        let mut pieces = Vec::with_capacity(results.len());
        for (&size, ty) in self.sizes.iter().zip(results) {
            let mut piece = Array::zeros(ty.shape.clone());
            for n in 0..x.rows() {
                piece.row_mut(n).copy_from_slice(&x.row(n)[start..start + size]);
            }
            start += size;
            pieces.push(piece);
        }
        pieces
    }

    fn samples() -> Vec<Sample> {
        let of = |sizes: &[usize]| Sample::new(Split { sizes: sizes.to_vec() }).normal([2, 7, sizes.iter().sum()]);
        vec![of(&[5]), of(&[4, 4, 4]), of(&[1, 17, 3])]
    }
}
