//! `sum`: the sum of all elements, in f32.
//!
//! Operand: x f32 of any shape. Result: f32 [1]. The derivative is `broadcast`.

use super::{Broadcast, OpDef, operands, typed};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// `sum` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sum;

impl OpDef for Sum {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        typed("x", inputs[0], DType::F32, &inputs[0].shape)?;
        Ok(vec![Type::new(DType::F32, [1])])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("sum")?;
        let shape = cx.builder.ty(cx.inputs[0]).shape.to_vec();
        let dx = if cx.needs[0] { Some(cx.emit1("dx", Broadcast { shape }, &[dy])?) } else { None };
        Ok(vec![dx])
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(inputs[0].shape.numel() as f64, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![Array::new([1], vec![inputs[0].data.iter().sum()])]
    }

    fn samples() -> Vec<Sample> {
        vec![Sample::new(Sum).normal([1]), Sample::new(Sum).normal([2, 35]), Sample::new(Sum).normal([1, 300])]
    }
}
