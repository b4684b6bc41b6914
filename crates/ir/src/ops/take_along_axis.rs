//! `take_along_axis`: single elements of x along an axis, by their numbers: y[.., i, ..] = x[.., ids[.., i, ..], ..], as
//! `torch.gather` and `numpy.take_along_axis`.
//!
//! Operands: x, real numbers or i32; ids i32, of x's shape but for the axis, each within x's axis. Result: y of the shape of ids.
//! An id outside of that gives NaN here and is refused by devices.

use super::gather::has_axis;
use super::{OpDef, TakeAlongAxisGrad, integer, movable, operands};
use crate::axes::around;
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `take_along_axis`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TakeAlongAxis {
    /// The axis of x that is numbered.
    pub axis: usize,
}

impl OpDef for TakeAlongAxis {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        let (x, ids) = (inputs[0], inputs[1]);
        movable("x", x)?;
        integer("ids", ids)?;
        has_axis("x", x, self.axis)?;
        let alike = |axis: usize| axis == self.axis || ids.shape[axis] == x.shape[axis];
        if ids.shape.len() != x.shape.len() || !(0..x.shape.len()).all(alike) {
            return Err(format!("ids {ids} must have the shape of x {x} in all axes but axis {}", self.axis));
        }
        Ok(vec![Type::new(x.dtype, ids.shape.clone())])
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..1
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("take_along_axis")?;
        let size = cx.builder.ty(cx.inputs[0]).shape[self.axis];
        let grad = TakeAlongAxisGrad { axis: self.axis, size };
        let dx = if cx.needs[0] { Some(cx.emit1("dx", grad, &[dy, cx.inputs[1]])?) } else { None };
        Ok(vec![dx, None])
    }

    /// Only what is taken moves.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, &[outputs[0], inputs[1]], outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (x, ids) = (inputs[0], inputs[1]);
        let [_, size, inner] = around(&x.shape, self.axis);
        let block = inner * results[0].shape[self.axis];
        let taken = ids.data.iter().enumerate().map(|(at, &id)| {
            let known = id >= 0.0 && id < size as f64;
            if known { x.data[(at / block * size + id as usize) * inner + at % inner] } else { f64::NAN }
        });
        vec![Array::new(results[0].shape.clone(), taken.collect())]
    }

    fn samples() -> Vec<Sample> {
        let of = |axis: usize| Sample::new(TakeAlongAxis { axis });
        vec![
            of(1).normal([6, 5]).ids([6, 1], 5),
            of(1).normal([2, 7, 33]).ids([2, 4, 33], 7),
            of(0).normal([3, 5]).ids([8, 5], 3),
            of(0).normal([1]).ids([1], 1),
            of(1).ids([2, 4], 9).ids([2, 3], 4),
        ]
    }
}
