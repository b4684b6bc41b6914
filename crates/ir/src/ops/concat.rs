//! `concat`: joins values along an axis, mostly the last, or along each of the G groups that the last falls into.
//!
//! Operands: one or more, of one dtype and the same axes but that one, which G divides. Result: [.., Σ sizes, ..]. The derivative
//! is `split`.

use super::{OpDef, Split, float, is_one, is_zero, one};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `concat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// Into how many equal parts the last axis falls first, each of which is joined by itself; one where the text form says nothing.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
    /// How many axes stand behind the joined one; none where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub behind: usize,
}

impl Concat {
    /// Whole rows, joined.
    pub const WHOLE: Concat = Concat { groups: 1, behind: 0 };
}

impl Concat {
    /// Elements that lie together in an operand or result of this shape.
    pub fn width(&self, shape: &[usize]) -> usize {
        shape[shape.len() - 1 - self.behind..].iter().product::<usize>() / self.groups
    }
}

/// The index of the axis that has so many behind it, which cannot be in groups unless it is the last.
pub(super) fn axis(name: &str, ty: &Type, behind: usize, groups: usize) -> Result<usize, String> {
    let axis = ty.shape.len().checked_sub(behind).and_then(|left| left.checked_sub(1));
    let axis = axis.ok_or_else(|| format!("{name} {ty} has no axis with {behind} behind it"))?;
    if behind == 0 || groups == 1 { Ok(axis) } else { Err(format!("attribute groups = {groups} is for the last axis")) }
}

impl OpDef for Concat {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let Some(first) = inputs.first() else {
            return Err("expects at least 1 operand, got 0".to_string());
        };
        float("operand 0", first)?;
        let axis = axis("operand 0", first, self.behind, self.groups)?;
        let mut shape = first.shape.to_vec();
        shape[axis] = 0;
        for (index, ty) in inputs.iter().enumerate() {
            let alike = |other: usize| other == axis || ty.shape[other] == first.shape[other];
            let fits = ty.shape.len() == shape.len() && (0..shape.len()).all(alike);
            if ty.dtype != first.dtype || !fits {
                let which = if self.behind == 0 { "the last axis".to_string() } else { format!("axis {axis}") };
                return Err(format!("operand {index} {ty} and operand 0 {first} may differ in {which} only"));
            }
            if self.groups == 0 || !ty.shape[axis].is_multiple_of(self.groups) {
                return Err(format!("attribute groups = {} does not divide the last axis of operand {index} {ty}", self.groups));
            }
            shape[axis] = shape[axis].checked_add(ty.shape[axis]).ok_or("the joined axis is too large")?;
        }
        Ok(vec![Type::new(first.dtype, shape)])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("concat")?;
        let size = |&id: &ValueId| {
            let shape = &cx.builder.ty(id).shape;
            shape[shape.len() - 1 - self.behind] / self.groups
        };
        let sizes = cx.inputs.iter().map(size).collect();
        let pieces = cx.emit("dx", Split { sizes, groups: self.groups, behind: self.behind }, &[dy])?;
        Ok(cx.needs.iter().zip(pieces).map(|(&need, piece)| need.then_some(piece)).collect())
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let mut y = Array::zeros(results[0].shape.clone());
        let width = self.width(&y.shape);
        for (group, joined) in y.data.chunks_mut(width).enumerate() {
            let mut start = 0;
            for piece in inputs {
                let size = self.width(&piece.shape);
                joined[start..start + size].copy_from_slice(&piece.data[group * size..(group + 1) * size]);
                start += size;
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |sizes: &[usize], groups: usize| {
            sizes.iter().fold(Sample::new(Concat { groups, behind: 0 }), |sample, &size| sample.normal([2, 7, groups * size]))
        };
        let along = |behind: usize, shapes: &[[usize; 3]]| {
            let new = Sample::new(Concat { groups: 1, behind });
            shapes.iter().fold(new, |sample, &shape| sample.normal(shape))
        };
        let first = along(2, &[[1, 3, 5], [4, 3, 5], [2, 3, 5]]);
        let middle = along(1, &[[2, 7, 33], [2, 1, 33]]);
        vec![of(&[5], 1), of(&[4, 4, 4], 1), of(&[1, 17, 3], 1), of(&[6, 6, 6], 4), of(&[1, 5], 3), first, middle]
    }
}
