//! `broadcast`: a value of the given shape with every element equal to the operand.
//!
//! Operand: s f32 [1]. Result: f32 of `shape`. The derivative is `sum`.

use super::{OpDef, Sum, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::{DType, Shape};
use serde::{Deserialize, Serialize};

/// Attributes of `broadcast`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Broadcast {
    /// Shape of the result.
    pub shape: Vec<usize>,
}

impl OpDef for Broadcast {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        typed("s", inputs[0], DType::F32, &[1])?;
        Ok(vec![Type::new(DType::F32, self.shape.clone())])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("broadcast")?;
        let ds = if cx.needs[0] { Some(cx.emit1("dx", Sum, &[dy])?) } else { None };
        Ok(vec![ds])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(0.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![Array::zeros(Shape::new(self.shape.clone())).map(|_| inputs[0].data[0])]
    }

    fn samples() -> Vec<Sample> {
        let of = |shape: &[usize]| Sample::new(Broadcast { shape: shape.to_vec() }).normal([1]);
        vec![of(&[1]), of(&[2, 35]), of(&[1, 300])]
    }
}
