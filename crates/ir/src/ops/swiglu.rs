//! `swiglu`: y = silu(gate) · up with silu(g) = g / (1 + e⁻ᵍ), element-wise.
//!
//! Operands: gate, up of one type. Result: y of that type. Shazeer, *GLU variants improve transformer*, 2020.

use super::{OpDef, SwigluGrad, float, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// `swiglu` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Swiglu;

/// The logistic function.
pub(super) fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

impl OpDef for Swiglu {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        float("gate", inputs[0])?;
        same(("gate", inputs[0]), ("up", inputs[1]))?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Swiglu
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("swiglu")?;
        let grads = cx.emit("dx", SwigluGrad, &[dy, cx.inputs[0], cx.inputs[1]])?;
        Ok(cx.needs.iter().zip(grads).map(|(&need, grad)| need.then_some(grad)).collect())
    }

    /// An exponential counts as ten operations.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(14.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |gate, up| gate * sigmoid(gate) * up)]
    }

    /// One sample reaches far into both tails of the exponential.
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Swiglu).normal([1, 3, 5]).normal([1, 3, 5]),
            Sample::new(Swiglu).normal_around([2, 7, 33], 0.0, 3.0).normal([2, 7, 33]),
            Sample::new(Swiglu).f32([1, 6], vec![-100.0, -90.0, -20.0, 0.0, 30.0, 100.0]).normal([1, 6]),
        ]
    }
}
