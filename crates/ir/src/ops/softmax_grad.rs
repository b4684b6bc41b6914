//! `softmax_grad`: dx = y·(dy − Σ dy·y) along the last axis; of the logarithm, dx = dy − eʸ·Σ dy.
//!
//! Operands: dy, y, of one type. Result: dx like y.

use super::softmax::operands_of;
use super::{OpDef, Softmax, float, is_false, operands, same};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `softmax_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftmaxGrad {
    /// Whether y is the logarithm; it is not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub log: bool,
}

impl OpDef for SoftmaxGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        float("y", inputs[1])?;
        same(("dy", inputs[0]), ("y", inputs[1]))?;
        Ok(vec![inputs[1].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0), (1, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1])
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        if self.log { OpClass::GeluGrad } else { OpClass::Stream }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("softmax_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(if self.log { 14.0 } else { 4.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (dy, y) = (inputs[0], inputs[1]);
        let mut dx = Array::zeros(y.shape.clone());
        for row in 0..y.rows() {
            let pairs = || dy.row(row).iter().zip(y.row(row));
            let sum: f64 = pairs().map(|(dy, y)| if self.log { *dy } else { dy * y }).sum();
            for (dx, (dy, y)) in dx.row_mut(row).iter_mut().zip(pairs()) {
                *dx = if self.log { dy - y.exp() * sum } else { y * (dy - sum) };
            }
        }
        vec![dx]
    }

    fn samples() -> Vec<Sample> {
        let of = |log: bool| {
            let forward = operands_of(|| Sample::new(Softmax { log }));
            forward.into_iter().map(move |forward| {
                let y = forward.eval().remove(0);
                Sample::new(SoftmaxGrad { log }).normal(y.shape.clone()).array(&y)
            })
        };
        [false, true].into_iter().flat_map(of).collect()
    }
}
