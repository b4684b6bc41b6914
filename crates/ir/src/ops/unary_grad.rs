//! `unary_grad`: dx = dy · f′, with the slope from x, or from y where the function is one whose slope follows from that
//! ([`UnaryFunction::derivative`]).
//!
//! Operands: dy, x or y, of one type. Result: dx of that type.

use super::{OpDef, UnaryFunction, float, operands, same, unary::Derivative};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `unary_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnaryGrad {
    /// The function of the forward.
    pub function: UnaryFunction,
}

impl OpDef for UnaryGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        self.function.check()?;
        let name = if self.function.derivative() == Derivative::OfOutput { "y" } else { "x" };
        float(name, inputs[1])?;
        same(("dy", inputs[0]), (name, inputs[1]))?;
        Ok(vec![inputs[1].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1])
    }

    /// From y nearly all slopes are products; from x they take an exponential where the function does.
    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        let from_input = self.function.derivative() == Derivative::OfInput;
        if from_input && self.function.is_transcendental() { OpClass::GeluGrad } else { OpClass::Stream }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("unary_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let class = self.class(inputs, outputs);
        Cost::pointwise(if class == OpClass::Stream { 3.0 } else { 16.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |dy, at| dy * self.function.slope(at))]
    }

    fn samples() -> Vec<Sample> {
        let of = |function: UnaryFunction| {
            let operands = function.sample_operands().into_iter();
            operands.map(move |(shape, data)| {
                let at = match function.derivative() {
                    Derivative::OfOutput => data.iter().map(|&x| function.value(x)).collect(),
                    _ => data,
                };
                Sample::new(UnaryGrad { function }).normal(shape.clone()).f32(shape, at)
            })
        };
        UnaryFunction::SOME.into_iter().flat_map(of).collect()
    }
}
