//! `gelu_grad`: with t = tanh(u), u = √(2/π)·(x + 0.044715·x³): dx = dy · ((1 + t)/2 + x/2 · (1 − t²) · u′).
//!
//! Operands: dy, x of one type. Result: dx of that type.

use super::gelu::{CUBIC, Gelu, SLOPE};
use super::{OpDef, float, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// `gelu_grad` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct GeluGrad;

impl OpDef for GeluGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        float("x", inputs[1])?;
        same(("dy", inputs[0]), ("x", inputs[1]))?;
        Ok(vec![inputs[1].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::GeluGrad
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("gelu_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(28.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |dy, x| {
            let t = (SLOPE * (x + CUBIC * x * x * x)).tanh();
            let slope = SLOPE * (1.0 + 3.0 * CUBIC * x * x);
            dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * slope)
        })]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            Sample::new(GeluGrad).normal(forward.types[0].shape.clone()).operand(&forward, 0)
        };
        Gelu::samples().into_iter().map(with_cotangent).collect()
    }
}
