//! `split`: cuts an axis into pieces, mostly the last, or each of the G groups that the last falls into.
//!
//! Operand: x [.., G·Σ sizes, ..]. Results: one piece [.., G·size, ..] each, of x's dtype. The derivative is `concat`. G > 1 takes the
//! queries, keys and values of each head apart, where these lie head by head.

use super::{Concat, OpDef, Zeros, concat, is_one, is_zero, one, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `split`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Split {
    /// Sizes of the pieces along the axis, in each group.
    pub sizes: Vec<usize>,
    /// Into how many equal parts the last axis falls first, each of which is cut by itself; one where the text form says nothing.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// How many axes stand behind the one that is cut; none where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind: usize,
}

impl OpDef for Split {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let x = inputs[0];
        if self.sizes.is_empty() || self.sizes.contains(&0) {
            return Err(format!("attribute sizes = {:?} must be positive numbers, at least one", self.sizes));
        }
        let axis = concat::axis("x", x, self.behind, self.groups)?;
        let total = self.sizes.iter().try_fold(0usize, |sum, &size| sum.checked_add(size));
        if total.and_then(|total| total.checked_mul(self.groups)) != Some(x.shape[axis]) {
            let groups = if self.groups == 1 { String::new() } else { format!(", {} times,", self.groups) };
            let which = if self.behind == 0 { "the last axis".to_string() } else { format!("axis {axis}") };
            return Err(format!("attribute sizes = {:?}{groups} does not add up to {which} of x {x}", self.sizes));
        }
        let piece = |&size: &usize| {
            let mut shape = x.shape.to_vec();
            shape[axis] = self.groups * size;
            Type::new(x.dtype, shape)
        };
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
        Ok(vec![Some(cx.emit1("dx", Concat { groups: self.groups, behind: self.behind }, &pieces)?)])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let x = inputs[0];
        let behind: usize = x.shape[x.shape.len() - self.behind..].iter().product();
        let width = behind * self.sizes.iter().sum::<usize>();
        let mut start = 0;
        let mut pieces = Vec::with_capacity(results.len());
        for (size, ty) in self.sizes.iter().map(|size| behind * size).zip(results) {
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
            Sample::new(Split { sizes: sizes.to_vec(), groups, behind: 0 }).normal([2, 7, groups * sizes.iter().sum::<usize>()])
        };
        let along = |sizes: &[usize], behind: usize| Sample::new(Split { sizes: sizes.to_vec(), groups: 1, behind });
        let (first, middle) = (along(&[1, 4, 2], 2).normal([7, 3, 5]), along(&[5, 3], 1).normal([2, 8, 33]));
        vec![of(&[5], 1), of(&[4, 4, 4], 1), of(&[1, 17, 3], 1), of(&[6, 6, 6], 4), of(&[1, 5], 3), first, middle]
    }
}
