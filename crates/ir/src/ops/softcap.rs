//! `softcap`: y = cap · tanh(x / cap), element-wise: close to x where |x| is small, and never beyond ±cap.
//!
//! Operand: x. Result: y like x. Attention and the head's loss cap scores and logits inside; this op is for logits that are a
//! value. Gemma team, *Gemma 2*, 2024.

use super::{OpDef, SoftcapGrad, float, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `softcap`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Softcap {
    /// What no result goes beyond; above 0.
    pub cap: f32,
}

/// Refuses a cap that is not above 0.
pub(super) fn check(cap: Option<f32>) -> Result<(), String> {
    match cap {
        Some(cap) if !(cap.is_finite() && cap > 0.0) => {
            Err(format!("attribute softcap = {cap} must be a finite number above 0"))
        }
        _ => Ok(()),
    }
}

/// cap · tanh(x / cap); x without a cap.
pub(super) fn capped(cap: Option<f32>, x: f64) -> f64 {
    cap.map_or(x, |cap| f64::from(cap) * (x / f64::from(cap)).tanh())
}

/// dy/dx at y: 1 − (y / cap)²; 1 without a cap.
pub(super) fn slope(cap: Option<f32>, y: f64) -> f64 {
    cap.map_or(1.0, |cap| 1.0 - (y / f64::from(cap)).powi(2))
}

impl OpDef for Softcap {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        check(Some(self.cap))?;
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
        let dy = cx.dy("softcap")?;
        let grad = SoftcapGrad { cap: self.cap };
        let dx = if cx.needs[0] { Some(cx.emit1("dx", grad, &[dy, cx.outputs[0]])?) } else { None };
        Ok(vec![dx])
    }

    /// A hyperbolic tangent counts as twelve operations.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(14.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|x| capped(Some(self.cap), x))]
    }

    /// One reaches far into both tails.
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Softcap { cap: 1.5 }).normal([1, 3, 5]),
            Sample::new(Softcap { cap: 30.0 }).normal_around([2, 7, 33], 0.0, 9.0),
            Sample::new(Softcap { cap: 2.0 }).f32([1, 6], vec![-1000.0, -10.0, -0.01, 0.0, 0.3, 500.0]),
        ]
    }
}
