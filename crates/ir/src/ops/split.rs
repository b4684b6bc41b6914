//! `split`: cuts the last axis into pieces, or each of the G groups that it falls into.
//!
//! Operand: x [.., G·Σ sizes]. Results: one piece [.., G·size] each, of x's dtype. The derivative is `concat`. G > 1 takes the
//! queries, keys and values of each head apart, where these lie head by head.

use super::{Concat, OpDef, Zeros, is_one, one, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Sizes of the pieces along the last axis, in each group.
    pub sizes: Vec<usize>,
    /// Into how many equal parts the last axis falls first, each of which is cut by itself; one where the text form says nothing.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
}

impl OpDef for Split {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let x = inputs[0];
        if self.sizes.is_empty() || self.sizes.contains(&0) {
            return Err(format!("attribute sizes = {:?} must be positive numbers, at least one", self.sizes));
        }
        let total = self.sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if total.and_then(|total| total.checked_mul(self.groups)) != Some(x.shape.last()) {
            let groups = if self.groups == 1 { String::new() } else { format!(", {} times,", self.groups) };
            return Err(format!("attribute sizes = {:?}{groups} does not add up to the last axis of x {x}", self.sizes));
        }
        let piece = |&size: &usize| Type::new(x.dtype, x.shape.with_last(self.groups * size));
        Ok(self.sizes.iter().map(piece).collect())
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
        Ok(vec![Some(cx.emit1("dx", Concat { groups: self.groups }, &pieces)?)])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, width) = (inputs[0], self.sizes.iter().sum());
        let mut start = 0;
        let mut pieces = Vec::with_capacity(results.len());
        for (&size, ty) in self.sizes.iter().zip(results) {
            let mut piece = Array::zeros(ty.shape.clone());
            for (to, group) in piece.data.chunks_mut(size).zip(x.data.chunks(width)) {
                to.copy_from_slice(&group[start..start + size]);
            }
            start += size;
            pieces.push(piece);
        }
        pieces
    }

    fn samples() -> Vec<Sample> {
        let of = |sizes: &[usize], groups: usize| {
            Sample::new(Split { sizes: sizes.to_vec(), groups }).normal([2, 7, groups * sizes.iter().sum::<usize>()])
        };
        vec![of(&[5], 1), of(&[4, 4, 4], 1), of(&[1, 17, 3], 1), of(&[6, 6, 6], 4), of(&[1, 5], 3)]
    }
}
