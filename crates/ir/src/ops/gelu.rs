//! `gelu`: y = x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³))), the tanh approximation (`gelu_new` in transformers).
//!
//! Operand: x. Result: y like x. Hendrycks and Gimpel, *Gaussian error linear units*, 2016.

use super::{GeluGrad, OpDef, float, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// `gelu` has no attributes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Gelu;

/// √(2/π).
pub(super) const SLOPE: f64 = 0.797_884_560_802_865_4;
/// Weight of the cubic term.
pub(super) const CUBIC: f64 = 0.044_715;

impl OpDef for Gelu {
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
        let dy = cx.dy("gelu")?;
        let dx = if cx.needs[0] { Some(cx.emit1("dx", GeluGrad, &[dy, cx.inputs[0]])?) } else { None };
        Ok(vec![dx])
    }

    /// A hyperbolic tangent counts as twelve operations.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(20.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|x| 0.5 * x * (1.0 + (SLOPE * (x + CUBIC * x * x * x)).tanh()))]
    }

    /// One sample reaches far into both tails.
    fn samples() -> Vec<Sample> {
        vec![
            Sample::new(Gelu).normal([1, 3, 5]),
            Sample::new(Gelu).normal_around([2, 7, 33], 0.0, 3.0),
            Sample::new(Gelu).f32([1, 6], vec![-100.0, -10.0, -5.0, 0.0, 5.0, 100.0]),
        ]
    }
}
