//! `expand`: x broadcast to a shape, as NumPy does: new axes stand in front, and an axis of size 1 is repeated.
//!
//! Operand: x, real numbers or i32. Result: y of `shape`. The derivative is the sum over what was repeated.

use super::binary::summed_to;
use super::{OpDef, movable, operands};
use crate::axes::{broadcasts_to, few_axes, offsets, strides_within};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `expand`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expand {
    /// Shape of the result.
    pub shape: Vec<usize>,
}

impl OpDef for Expand {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        movable("x", inputs[0])?;
        few_axes("the shape", &self.shape)?;
        if !broadcasts_to(&inputs[0].shape, &self.shape) {
            return Err(format!("x {} does not broadcast to {:?}: sizes must be equal or 1", inputs[0], self.shape));
        }
        Ok(vec![Type::new(inputs[0].dtype, self.shape.clone())])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("expand")?;
        let shape = cx.builder.ty(cx.inputs[0]).shape.to_vec();
        let dx = if cx.needs[0] { Some(summed_to(cx, "dx", dy, &shape)?) } else { None };
        Ok(vec![dx])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let at = offsets(&self.shape, &strides_within(&inputs[0].shape, &self.shape));
        vec![Array::new(self.shape.clone(), at.into_iter().map(|at| inputs[0].data[at]).collect())]
    }

    fn samples() -> Vec<Sample> {
        let of = |from: &[usize], to: &[usize]| Sample::new(Expand { shape: to.to_vec() }).normal(from);
        vec![
            of(&[1], &[2, 35]),
            of(&[2, 1, 33], &[2, 7, 33]),
            of(&[7, 1], &[3, 7, 9]),
            of(&[2, 3], &[2, 3]),
            Sample::new(Expand { shape: vec![2, 3, 4] }).ids([3, 1], 9),
        ]
    }
}
