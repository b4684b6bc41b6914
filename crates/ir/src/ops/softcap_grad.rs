//! `softcap_grad`: dx = dy · (1 − (y / cap)²) with y = cap · tanh(x / cap), the forward's result.
//!
//! Operands: dy, y of one type. Result: dx of that type.

use super::softcap::{Softcap, check, slope};
use super::{Op, OpDef, float, operands, same};
use crate::{Array, Cost, IrError, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `softcap_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SoftcapGrad {
    /// The forward's.
    pub cap: f32,
}

impl OpDef for SoftcapGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 2)?;
        check(Some(self.cap))?;
        float("y", inputs[1])?;
        same(("dy", inputs[0]), ("y", inputs[1]))?;
        Ok(vec![inputs[1].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0, 1])
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        Err(cx.refuse("softcap_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(4.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].zip(inputs[1], |dy, y| dy * slope(Some(self.cap), y))]
    }

    fn samples() -> Vec<Sample> {
        let with_cotangent = |forward: Sample| {
            let Op::Softcap(Softcap { cap }) = forward.op else { unreachable!("a sample of softcap") };
            let dy = Sample::new(SoftcapGrad { cap }).normal(forward.types[0].shape.clone());
            dy.array(&forward.eval()[0])
        };
        Softcap::samples().into_iter().map(with_cotangent).collect()
    }
}
