//! `gelu`: y = x·Φ(x) with Φ the distribution function of the standard normal (`gelu` in transformers), or the tanh
//! approximation of it, y = x/2 · (1 + tanh(√(2/π) · (x + 0.044715·x³))) (`gelu_new`).
//!
//! Operand: x. Result: y like x. Hendrycks and Gimpel, *Gaussian error linear units*, 2016.

use super::{GeluGrad, OpDef, float, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Attributes of `gelu`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gelu {
    /// How it is computed; tanh where the text form says nothing.
    #[serde(default, skip_serializing_if = "GeluForm::is_tanh")]
    pub form: GeluForm,
}

/// How `gelu` is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GeluForm {
    /// By the error function.
    Exact,
    /// By the hyperbolic tangent.
    #[default]
    Tanh,
}

impl GeluForm {
    /// All of them.
    pub const ALL: [GeluForm; 2] = [GeluForm::Tanh, GeluForm::Exact];

    pub(super) fn is_tanh(&self) -> bool {
        *self == GeluForm::Tanh
    }

    /// y at x.
    pub(super) fn value(self, x: f64) -> f64 {
        match self {
            GeluForm::Exact => x * normal_distribution(x),
            GeluForm::Tanh => 0.5 * x * (1.0 + (SLOPE * (x + CUBIC * x * x * x)).tanh()),
        }
    }

    /// dy/dx at x.
    pub(super) fn slope(self, x: f64) -> f64 {
        match self {
            GeluForm::Exact => normal_distribution(x) + x * (-0.5 * x * x).exp() / (2.0 * PI).sqrt(),
            GeluForm::Tanh => {
                let t = (SLOPE * (x + CUBIC * x * x * x)).tanh();
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * SLOPE * (1.0 + 3.0 * CUBIC * x * x)
            }
        }
    }
}

/// Φ(x).
fn normal_distribution(x: f64) -> f64 {
    0.5 * libm::erfc(-x * FRAC_1_SQRT_2)
}

/// √(2/π).
const SLOPE: f64 = 0.797_884_560_802_865_4;
/// Weight of the cubic term.
const CUBIC: f64 = 0.044_715;

impl Gelu {
    /// The tanh form.
    pub const TANH: Gelu = Gelu { form: GeluForm::Tanh };
}

/// Samples of one form; one reaches far into both tails.
pub(super) fn samples_of(form: GeluForm) -> [Sample; 3] {
    [
        Sample::new(Gelu { form }).normal([1, 3, 5]),
        Sample::new(Gelu { form }).normal_around([2, 7, 33], 0.0, 3.0),
        Sample::new(Gelu { form }).f32([1, 6], vec![-100.0, -10.0, -5.0, 0.0, 5.0, 100.0]),
    ]
}

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
        let grad = GeluGrad { form: self.form };
        let dx = if cx.needs[0] { Some(cx.emit1("dx", grad, &[dy, cx.inputs[0]])?) } else { None };
        Ok(vec![dx])
    }

    /// A hyperbolic tangent counts as twelve operations, and so does an error function.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(20.0, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|x| self.form.value(x))]
    }

    fn samples() -> Vec<Sample> {
        GeluForm::ALL.into_iter().flat_map(samples_of).collect()
    }
}
