//! `softmax`: y = eˣ/Σeˣ along the last axis, or its logarithm, x − ln Σeˣ.
//!
//! Operand: x. Result: y like x. The largest element of a row is taken off before exponentials are, so that none overflows. Saves
//! y alone. A row of nothing but −∞ gives NaN, as in PyTorch.

use super::{OpDef, SoftmaxGrad, float, is_false, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `softmax`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softmax {
    /// Whether the result is the logarithm; it is not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub log: bool,
}

/// Samples; some rows are far apart, and some have one element.
pub(super) fn operands_of(new: impl Fn() -> Sample) -> Vec<Sample> {
    vec![
        new().normal([1, 3, 5]),
        new().normal_around([2, 7, 33], 0.0, 3.0),
        new().normal([3, 1]),
        new().f32([2, 4], vec![-1e4, 0.0, 1e4, 1e4, 80.0, -80.0, 0.0, 0.5]),
        new().normal_around([1, 200], 50.0, 1.0),
    ]
}

impl OpDef for Softmax {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        float("x", inputs[0])?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Gelu
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("softmax")?;
        let grad = SoftmaxGrad { log: self.log };
        let dx = if cx.needs[0] { Some(cx.emit1("dx", grad, &[dy, cx.outputs[0]])?) } else { None };
        Ok(vec![dx])
    }

    /// Two exponentials of ten operations each.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(24.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let mut y = inputs[0].clone();
        for row in 0..y.rows() {
            let row = y.row_mut(row);
            let largest = row.iter().fold(f64::NEG_INFINITY, |most, &x| if x > most || x.is_nan() { x } else { most });
            let sum: f64 = row.iter().map(|x| (x - largest).exp()).sum();
            for x in row {
                *x = if self.log { *x - largest - sum.ln() } else { (*x - largest).exp() / sum };
            }
        }
        vec![y]
    }

    fn samples() -> Vec<Sample> {
        [false, true].into_iter().flat_map(|log| operands_of(|| Sample::new(Softmax { log }))).collect()
    }
}
