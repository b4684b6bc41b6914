//! `geglu_grad`: dgate = dy · up · gelu′(gate), dup = dy · gelu(gate).
//!
//! Operands: dy, gate, up of one type. Results: dgate, dup of that type.

use super::geglu::samples_of;
use super::{GeluForm, OpDef, float, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `geglu_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GegluGrad {
    /// How GELU was computed; tanh where the text form says nothing.
    #[serde(default, skip_serializing_if = "GeluForm::is_tanh")]
    pub form: GeluForm,
}

impl OpDef for GegluGrad {
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
        OpClass::GeluGrad
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("geglu_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(31.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, gate, up) = (inputs[0], inputs[1], inputs[2]);
        let dgate = dy.zip(up, |d, u| d * u).zip(gate, |d, g| d * self.form.slope(g));
        let dup = dy.zip(gate, |d, g| d * self.form.value(g));
        vec![dgate, dup]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |(form, forward): (GeluForm, Sample)| {
            let dy = Sample::new(GegluGrad { form }).normal(forward.types[0].shape.clone());
            dy.operand(&forward, 0).operand(&forward, 1)
        };
        let forward = GeluForm::ALL.into_iter().flat_map(|form| samples_of(form).map(|sample| (form, sample)));
        forward.map(with_cotangent).collect()
    }
}
