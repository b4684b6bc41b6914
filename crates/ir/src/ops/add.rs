//! `add`: y = a + b, element-wise.
//!
//! Operands: a, b of one type. Result: y of that type. Saves nothing: both cotangents are dy.

use super::{OpDef, float, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// `add` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Add;

impl OpDef for Add {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        float("a", inputs[0])?;
        same(("a", inputs[0]), ("b", inputs[1]))?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Add
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("add")?;
        Ok(cx.needs.iter().map(|&need| need.then_some(dy)).collect())
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(1.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |a, b| a + b)]
    }

    fn samples() -> Vec<Sample> {
        [[1, 3, 5], [2, 7, 33]].into_iter().map(|shape| Sample::new(Add).normal(shape).normal(shape)).collect()
    }
}
