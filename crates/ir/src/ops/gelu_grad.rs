//! `gelu_grad`: dx = dy · (Φ(x) + x·φ(x)) with φ the density of the standard normal; for the tanh form with t = tanh(u),
//! u = √(2/π)·(x + 0.044715·x³): dx = dy · ((1 + t)/2 + x/2 · (1 − t²) · u′).
//!
//! Operands: dy, x of one type. Result: dx of that type.

use super::gelu::samples_of;
use super::{GeluForm, OpDef, float, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `gelu_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GeluGrad {
    /// How `gelu` was computed; tanh where the text form says nothing.
    #[serde(default, skip_serializing_if = "GeluForm::is_tanh")]
    pub form: GeluForm,
}

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
        vec![inputs[0].zip(inputs[1], |dy, x| dy * self.form.slope(x))]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |(form, forward): (GeluForm, Sample)| {
            Sample::new(GeluGrad { form }).normal(forward.types[0].shape.clone()).operand(&forward, 0)
        };
        let forward = GeluForm::ALL.into_iter().flat_map(|form| samples_of(form).map(|sample| (form, sample)));
        forward.map(with_cotangent).collect()
    }
}
