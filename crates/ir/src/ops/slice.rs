//! `slice`: every `step`-th element from `start` up to `end`, along each axis.
//!
//! Operand: x, real numbers or i32. Result: y, whose axes have ⌈(end − start)/step⌉ elements. The derivative is `pad`.

use super::{OpDef, Pad, movable, operands};
use crate::axes::{few_axes, offsets, strides};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `slice`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// The first element along each axis.
    pub starts: Vec<usize>,
    /// One past the last.
    pub ends: Vec<usize>,
    /// How far the next one is.
    pub steps: Vec<usize>,
}

impl Slice {
    /// All of a shape but what an axis is cut to.
    pub fn along(shape: &[usize], axis: usize, start: usize, end: usize, step: usize) -> Slice {
        let mut slice = Slice { starts: vec![0; shape.len()], ends: shape.to_vec(), steps: vec![1; shape.len()] };
        (slice.starts[axis], slice.ends[axis], slice.steps[axis]) = (start, end, step);
        slice
    }
}

impl OpDef for Slice {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let x = inputs[0];
        movable("x", x)?;
        few_axes("x", &x.shape)?;
        let mut shape = x.shape.to_vec();
        if [&self.starts, &self.ends, &self.steps].iter().any(|list| list.len() != shape.len()) {
            return Err(format!("attributes starts, ends and steps must have one number for each axis of x {x}"));
        }
        for (axis, size) in shape.iter_mut().enumerate() {
            let (start, end, step) = (self.starts[axis], self.ends[axis], self.steps[axis]);
            if start >= end || end > *size || step == 0 {
                return Err(format!("axis {axis} of x {x} has no elements {start}..{end} by step {step}"));
            }
            *size = (end - start).div_ceil(step);
        }
        Ok(vec![Type::new(x.dtype, shape)])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("slice")?;
        if !cx.needs[0] {
            return Ok(vec![None]);
        }
        let x = cx.builder.ty(cx.inputs[0]).shape.to_vec();
        let y = cx.builder.ty(cx.outputs[0]).shape.to_vec();
        let behind = |axis: usize| x[axis] - (self.starts[axis] + (y[axis] - 1) * self.steps[axis] + 1);
        let pad = Pad {
            low: self.starts.clone(),
            high: (0..x.len()).map(behind).collect(),
            between: self.steps.iter().map(|step| step - 1).collect(),
            value: 0.0,
        };
        Ok(vec![Some(cx.emit1("dx", pad, &[dy])?)])
    }

    /// Only what is taken moves.
    fn cost(&self, _inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, outputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let own = strides(&inputs[0].shape);
        let first: usize = own.iter().zip(&self.starts).map(|(stride, start)| stride * start).sum();
        let steps: Vec<usize> = own.iter().zip(&self.steps).map(|(stride, step)| stride * step).collect();
        let at = offsets(&results[0].shape, &steps);
        vec![Array::new(results[0].shape.clone(), at.into_iter().map(|at| inputs[0].data[first + at]).collect())]
    }

    fn samples() -> Vec<Sample> {
        let of = |starts: &[usize], ends: &[usize], steps: &[usize]| {
            Sample::new(Slice { starts: starts.to_vec(), ends: ends.to_vec(), steps: steps.to_vec() })
        };
        vec![
            of(&[0, 2, 5], &[2, 6, 30], &[1, 1, 1]).normal([2, 7, 33]),
            of(&[1, 0, 1], &[4, 5, 33], &[2, 3, 4]).normal([4, 5, 33]),
            of(&[3, 0], &[4, 9], &[1, 1]).normal([6, 9]),
            of(&[0], &[1], &[1]).normal([1]),
            of(&[1, 1], &[3, 4], &[1, 2]).ids([3, 4], 9),
        ]
    }
}
