//! `reshape`: the same elements in the same order under another shape.
//!
//! Operand: x, real numbers or i32. Result: y of `shape`, with as many elements. In place it costs nothing.

use super::{OpDef, movable, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use remat_tensor::Shape;
use serde::{Deserialize, Serialize};

/// Attributes of `reshape`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reshape {
    /// Shape of the result.
    pub shape: Vec<usize>,
}

impl OpDef for Reshape {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        let x = inputs[0];
        movable("x", x)?;
        let elements = Shape::new(self.shape.clone()).checked_numel();
        if elements != Some(x.shape.numel()) {
            return Err(format!("attribute shape = {:?} does not hold the {} elements of x {x}", self.shape, x.shape.numel()));
        }
        Ok(vec![Type::new(x.dtype, self.shape.clone())])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Copy
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("reshape")?;
        let shape = cx.builder.ty(cx.inputs[0]).shape.to_vec();
        let dx = if cx.needs[0] { Some(cx.emit1("dx", Reshape { shape }, &[dy])?) } else { None };
        Ok(vec![dx])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![Array::new(self.shape.clone(), inputs[0].data.clone())]
    }

    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize]| Sample::new(Reshape { shape: shape.to_vec() });
        vec![
            of(&[6, 77]).normal([2, 7, 33]),
            of(&[1]).normal([1, 1]),
            of(&[3, 1, 5]).normal([15]),
            of(&[2, 3]).ids([6], 9),
        ]
    }
}
