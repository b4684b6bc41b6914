//! `swiglu_grad`: with s = sigmoid(gate): dgate = dy · up · s · (1 + gate · (1 − s)), dup = dy · gate · s.
//!
//! Operands: dy, gate, up of one type. Results: dgate, dup of that type.

use super::swiglu::{Swiglu, sigmoid};
use super::{OpDef, float, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// `swiglu_grad` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwigluGrad;

impl OpDef for SwigluGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        float("gate", inputs[1])?;
        same(("gate", inputs[1]), ("up", inputs[2]))?;
        same(("dy", inputs[0]), ("gate", inputs[1]))?;
        Ok(vec![inputs[1].clone(); 2])
    }

    fn result_name(&self, index: usize) -> &'static str {
        ["dgate", "dup"][index]
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(1, 0), (2, 1)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1, 2])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::SwigluGrad
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("swiglu_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(20.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, gate, up) = (inputs[0], inputs[1], inputs[2]);
        let slope = gate.map(|g| sigmoid(g) * (1.0 + g * (1.0 - sigmoid(g))));
        let dgate = dy.zip(up, |d, u| d * u).zip(&slope, |d, s| d * s);
        let dup = dy.zip(gate, |d, g| d * g * sigmoid(g));
        vec![dgate, dup]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let dy = Sample::new(SwigluGrad).normal(forward.types[0].shape.clone());
            dy.operand(&forward, 0).operand(&forward, 1)
        };
        Swiglu::samples().into_iter().map(with_cotangent).collect()
    }
}
