//! `concat`: joins values along the last axis, or each of the G groups that it falls into.
//!
//! Operands: one or more, of one dtype and the same axes but the last, which G divides. Result: [.., Σ sizes]. The derivative
//! is `split`.

use super::{OpDef, Split, float, is_one, one};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `concat`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Concat {
    /// Into how many equal parts the last axis falls first, each of which is joined by itself; one where the text form says nothing.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub groups: usize,
}

impl Concat {
    /// Whole rows, joined.
    pub const WHOLE: Concat = Concat { groups: 1 };
}

impl OpDef for Concat {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let Some(first) = inputs.first() else {
            return Err("expects at least 1 operand, got 0".to_string());
        };
        float("operand 0", first)?;
        let outer = |ty: &Type| ty.shape.with_last(1);
        let mut size = 0usize;
        for (index, ty) in inputs.iter().enumerate() {
            if ty.dtype != first.dtype || outer(ty) != outer(first) {
                return Err(format!("operand {index} {ty} and operand 0 {first} may differ in the last axis only"));
            }
            if self.groups == 0 || !ty.shape.last().is_multiple_of(self.groups) {
                return Err(format!("attribute groups = {} does not divide the last axis of operand {index} {ty}", self.groups));
            }
            size = size.checked_add(ty.shape.last()).ok_or("the joined axis is too large")?;
        }
        Ok(vec![Type::new(first.dtype, first.shape.with_last(size))])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("concat")?;
        let sizes = cx.inputs.iter().map(|&id| cx.builder.ty(id).shape.last() / self.groups).collect();
        let pieces = cx.emit("dx", Split { sizes, groups: self.groups }, &[dy])?;
        Ok(cx.needs.iter().zip(pieces).map(|(&need, piece)| need.then_some(piece)).collect())
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let mut y = Array::zeros(results[0].shape.clone());
        let width = y.shape.last() / self.groups;
        for (group, joined) in y.data.chunks_mut(width).enumerate() {
            let mut start = 0;
            for piece in inputs {
                let size = piece.shape.last() / self.groups;
                joined[start..start + size].copy_from_slice(&piece.data[group * size..(group + 1) * size]);
                start += size;
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |sizes: &[usize], groups: usize| {
            sizes.iter().fold(Sample::new(Concat { groups }), |sample, &size| sample.normal([2, 7, groups * size]))
        };
        vec![of(&[5], 1), of(&[4, 4, 4], 1), of(&[1, 17, 3], 1), of(&[6, 6, 6], 4), of(&[1, 5], 3)]
    }
}
