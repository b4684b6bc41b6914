//! `pad`: x with a value before, behind and between its elements, along each axis.
//!
//! Operand: x, real numbers or i32 (of which the value is 0). Result: y, whose axes have low + n + (n − 1)·between + high
//! elements. As XLA's `Pad`, without negative padding. The derivative is `slice`.

use super::{OpDef, Slice, movable, operands};
use crate::axes::{few_axes, offsets, strides};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `pad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pad {
    /// How much stands before the first element of each axis.
    pub low: Vec<usize>,
    /// How much behind the last.
    pub high: Vec<usize>,
    /// How much between neighbours.
    pub between: Vec<usize>,
    /// What stands there; may be infinite.
    #[serde(with = "crate::number")]
    pub value: f32,
}

impl OpDef for Pad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let x = inputs[0];
        movable("x", x)?;
        few_axes("x", &x.shape)?;
        if self.value.is_nan() || !x.dtype.is_float() && self.value != 0.0 {
            return Err(format!("attribute value = {} must be a number, and 0 in x {x} of integers", self.value));
        }
        if [&self.low, &self.high, &self.between].iter().any(|list| list.len() != x.shape.len()) {
            return Err(format!("attributes low, high and between must have one number for each axis of x {x}"));
        }
        let size = |axis: usize| {
            let between = self.between[axis].checked_mul(x.shape[axis] - 1)?;
            x.shape[axis].checked_add(between)?.checked_add(self.low[axis])?.checked_add(self.high[axis])
        };
        let shape: Option<Vec<usize>> = (0..x.shape.len()).map(size).collect();
        Ok(vec![Type::new(x.dtype, shape.ok_or("the padded axis is too large")?)])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("pad")?;
        if !cx.needs[0] {
            return Ok(vec![None]);
        }
        let x = cx.builder.ty(cx.inputs[0]).shape.to_vec();
        let end = |axis: usize| self.low[axis] + (x[axis] - 1) * (self.between[axis] + 1) + 1;
        let slice = Slice {
            starts: self.low.clone(),
            ends: (0..x.len()).map(end).collect(),
            steps: self.between.iter().map(|between| between + 1).collect(),
        };
        Ok(vec![Some(cx.emit1("dx", slice, &[dy])?)])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let own = strides(&results[0].shape);
        let first: usize = own.iter().zip(&self.low).map(|(stride, low)| stride * low).sum();
        let steps: Vec<usize> = own.iter().zip(&self.between).map(|(stride, between)| stride * (between + 1)).collect();
        let mut y = Array::zeros(results[0].shape.clone()).map(|_| f64::from(self.value));
        for (x, at) in inputs[0].data.iter().zip(offsets(&inputs[0].shape, &steps)) {
            y.data[first + at] = *x;
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        let of = |low: &[usize], high: &[usize], between: &[usize], value: f32| {
            Sample::new(Pad { low: low.to_vec(), high: high.to_vec(), between: between.to_vec(), value })
        };
        vec![
            of(&[0, 2, 5], &[0, 1, 3], &[0, 0, 0], 0.0).normal([2, 7, 23]),
            of(&[1, 0], &[0, 2], &[1, 3], -2.5).normal([4, 5]),
            of(&[0], &[0], &[2], 1.0).normal([1]),
            of(&[0, 0], &[0, 0], &[0, 0], 0.0).normal([3, 20]),
            of(&[1, 1], &[2, 0], &[0, 1], 0.0).ids([3, 4], 9),
        ]
    }
}
