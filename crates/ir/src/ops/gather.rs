//! `gather`: slices of x along an axis, by their numbers, as `torch.index_select` and `numpy.take`.
//!
//! Operands: x [.., A, ..], real numbers or i32; ids i32 [..], each in 0..A. Result: y, with the axes of ids in place of axis A.
//! An id outside of that gives NaN here and is refused by devices. Rows of a table are `embedding`'s affair, whose gradient is f32.

use super::{GatherGrad, OpDef, integer, movable, operands};
use crate::axes::around;
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `gather`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// The axis of x that is numbered.
    pub axis: usize,
}

/// Refuses an axis that a value does not have.
pub(super) fn has_axis(name: &str, ty: &Type, axis: usize) -> Result<(), String> {
    if axis < ty.shape.len() { Ok(()) } else { Err(format!("{name} {ty} has no axis {axis}")) }
}

impl OpDef for Gather {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (x, ids) = (inputs[0], inputs[1]);
        movable("x", x)?;
        integer("ids", ids)?;
        has_axis("x", x, self.axis)?;
        Ok(vec![Type::new(x.dtype, [&x.shape[..self.axis], &ids.shape, &x.shape[self.axis + 1..]].concat())])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("gather")?;
        let size = cx.builder.ty(cx.inputs[0]).shape[self.axis];
        let grad = GatherGrad { axis: self.axis, size };
        let dx = if cx.needs[0] { Some(cx.emit1("dx", grad, &[dy, cx.inputs[1]])?) } else { None };
        Ok(vec![dx, None])
    }

    /// Only what is taken moves.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, &[outputs[0], inputs[1]], outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, ids) = (inputs[0], inputs[1]);
        let [outer, size, inner] = around(&x.shape, self.axis);
        let mut y = Array::zeros(results[0].shape.clone());
        for (number, to) in y.data.chunks_mut(inner).enumerate() {
            let (block, id) = (number / ids.data.len(), ids.data[number % ids.data.len()]);
            if id >= 0.0 && id < size as f64 && block < outer {
                let from = (block * size + id as usize) * inner;
                to.copy_from_slice(&x.data[from..from + inner]);
            } else {
                to.fill(f64::NAN);
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |axis: usize| Sample::new(Gather { axis });
        vec![
            of(0).normal([6, 5]).ids([4], 6),
            of(1).normal([2, 7, 33]).ids([3, 5], 7),
            of(2).normal([2, 3, 5]).ids([12], 5),
            of(0).normal([1]).ids([1], 1),
            of(1).ids([2, 4], 9).ids([3], 4),
        ]
    }
}
