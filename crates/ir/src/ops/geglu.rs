//! `geglu`: y = gelu(gate) · up, element-wise, with `gelu` in either of its forms.
//!
//! Operands: gate, up of one type. Result: y of that type. Shazeer, *GLU variants improve transformer*, 2020.

use super::{GegluGrad, GeluForm, OpDef, float, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `geglu`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Geglu {
    /// How GELU is computed; tanh where the text form says nothing.
    #[serde(default, skip_serializing_if = "GeluForm::is_tanh")]
    pub form: GeluForm,
}

/// Samples of one form; one reaches far into both tails.
pub(super) fn samples_of(form: GeluForm) -> [Sample; 3] {
    let of = || Sample::new(Geglu { form });
    [
        of().normal([1, 3, 5]).normal([1, 3, 5]),
        of().normal_around([2, 7, 33], 0.0, 3.0).normal([2, 7, 33]),
        of().f32([1, 6], vec![-100.0, -10.0, -5.0, 0.0, 5.0, 100.0]).normal([1, 6]),
    ]
}

impl OpDef for Geglu {
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

    /// GELU's own arithmetic is what it costs.
    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Gelu
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("geglu")?;
        let grads = cx.emit("dx", GegluGrad { form: self.form }, &[dy, cx.inputs[0], cx.inputs[1]])?;
        Ok(cx.needs.iter().zip(grads).map(|(&need, grad)| need.then_some(grad)).collect())
    }

    /// One product more than `gelu`.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(21.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |gate, up| self.form.value(gate) * up)]
    }

    fn samples() -> Vec<Sample> {
        GeluForm::ALL.into_iter().flat_map(samples_of).collect()
    }
}
