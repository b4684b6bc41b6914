//! `unary`: y = f(x), element-wise, for one of a closed set of functions.
//!
//! Operand: x. Result: y like x. What the derivative reads is what costs the least memory: y where it follows from y (relu,
//! tanh, sigmoid, exp …: the next op mostly reads y, too), else x; see [`UnaryFunction::derivative`]. At kinks the slopes are
//! PyTorch's.

use super::{OpDef, UnaryGrad, Zeros, finite, float, operands};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use serde::{Deserialize, Serialize};

/// Attributes of `unary`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unary {
    /// Which function.
    pub function: UnaryFunction,
}

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum UnaryFunction {
    /// max(x, 0).
    Relu,
    /// x above 0, slope·x below.
    LeakyRelu {
        /// The slope below 0.
        slope: f32,
    },
    /// x above 0, alpha·(eˣ − 1) below. Clevert et al., 2015.
    Elu {
        /// Minus the value far below 0.
        alpha: f32,
    },
    /// 1/(1 + e⁻ˣ).
    Sigmoid,
    /// tanh x.
    Tanh,
    /// x·sigmoid(x).
    Silu,
    /// ln(1 + eˣ).
    Softplus,
    /// eˣ.
    Exp,
    /// ln x.
    Log,
    /// √x.
    Sqrt,
    /// 1/√x.
    Rsqrt,
    /// 1/x.
    Reciprocal,
    /// |x|.
    Abs,
    /// −1, 0 or 1; its derivative is 0.
    Sign,
    /// −x.
    Neg,
    /// x².
    Square,
    /// x to a constant power.
    Pow {
        /// The power.
        exponent: f32,
    },
    /// sin x, x in radians.
    Sin,
    /// cos x, x in radians.
    Cos,
    /// x, but at least `min` and at most `max`; at these its slope is 0.
    Clamp {
        /// The least value.
        #[serde(with = "crate::number")]
        min: f32,
        /// The largest.
        #[serde(with = "crate::number")]
        max: f32,
    },
    /// x + value.
    AddScalar {
        /// What is added.
        value: f32,
    },
}

/// How dx follows from dy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Derivative {
    /// dx = dy.
    Identity,
    /// dx = −dy.
    Negated,
    /// dx = 0.
    Zero,
    /// dy times a function of x.
    OfInput,
    /// dy times a function of y.
    OfOutput,
}

impl UnaryFunction {
    /// One of each, for samples and tests.
    pub const SOME: [UnaryFunction; 25] = [
        UnaryFunction::Relu,
        UnaryFunction::LeakyRelu { slope: 0.1 },
        UnaryFunction::LeakyRelu { slope: -0.5 },
        UnaryFunction::Elu { alpha: 1.5 },
        UnaryFunction::Elu { alpha: -0.5 },
        UnaryFunction::Sigmoid,
        UnaryFunction::Tanh,
        UnaryFunction::Silu,
        UnaryFunction::Softplus,
        UnaryFunction::Exp,
        UnaryFunction::Log,
        UnaryFunction::Sqrt,
        UnaryFunction::Rsqrt,
        UnaryFunction::Reciprocal,
        UnaryFunction::Abs,
        UnaryFunction::Sign,
        UnaryFunction::Neg,
        UnaryFunction::Square,
        UnaryFunction::Pow { exponent: 2.5 },
        UnaryFunction::Pow { exponent: 0.0 },
        UnaryFunction::Sin,
        UnaryFunction::Cos,
        UnaryFunction::Clamp { min: -0.5, max: 0.75 },
        UnaryFunction::Clamp { min: f32::NEG_INFINITY, max: 0.5 },
        UnaryFunction::AddScalar { value: -0.25 },
    ];

    /// What dx is made from.
    pub fn derivative(self) -> Derivative {
        match self {
            UnaryFunction::AddScalar { .. } => Derivative::Identity,
            UnaryFunction::Neg => Derivative::Negated,
            UnaryFunction::Sign => Derivative::Zero,
            UnaryFunction::Relu
            | UnaryFunction::Sigmoid
            | UnaryFunction::Tanh
            | UnaryFunction::Exp
            | UnaryFunction::Sqrt
            | UnaryFunction::Rsqrt
            | UnaryFunction::Reciprocal => Derivative::OfOutput,
            // Of these y tells the side of 0 that x is on only if the sign is kept.
            UnaryFunction::LeakyRelu { slope } if slope >= 0.0 => Derivative::OfOutput,
            UnaryFunction::Elu { alpha } if alpha >= 0.0 => Derivative::OfOutput,
            UnaryFunction::LeakyRelu { .. }
            | UnaryFunction::Elu { .. }
            | UnaryFunction::Silu
            | UnaryFunction::Softplus
            | UnaryFunction::Log
            | UnaryFunction::Abs
            | UnaryFunction::Square
            | UnaryFunction::Pow { .. }
            | UnaryFunction::Sin
            | UnaryFunction::Cos
            | UnaryFunction::Clamp { .. } => Derivative::OfInput,
        }
    }

    /// y at x.
    pub(super) fn value(self, x: f64) -> f64 {
        match self {
            UnaryFunction::Relu => if x <= 0.0 { 0.0 } else { x },
            UnaryFunction::LeakyRelu { slope } => if x <= 0.0 { f64::from(slope) * x } else { x },
            UnaryFunction::Elu { alpha } => if x <= 0.0 { f64::from(alpha) * x.exp_m1() } else { x },
            UnaryFunction::Sigmoid => sigmoid(x),
            UnaryFunction::Tanh => x.tanh(),
            UnaryFunction::Silu => x * sigmoid(x),
            UnaryFunction::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            UnaryFunction::Exp => x.exp(),
            UnaryFunction::Log => x.ln(),
            UnaryFunction::Sqrt => x.sqrt(),
            UnaryFunction::Rsqrt => 1.0 / x.sqrt(),
            UnaryFunction::Reciprocal => 1.0 / x,
            UnaryFunction::Abs => x.abs(),
            UnaryFunction::Sign => sign(x),
            UnaryFunction::Neg => -x,
            UnaryFunction::Square => x * x,
            UnaryFunction::Pow { exponent } => x.powf(f64::from(exponent)),
            UnaryFunction::Sin => x.sin(),
            UnaryFunction::Cos => x.cos(),
            UnaryFunction::Clamp { .. } if x.is_nan() => x,
            UnaryFunction::Clamp { min, max } => x.max(f64::from(min)).min(f64::from(max)),
            UnaryFunction::AddScalar { value } => x + f64::from(value),
        }
    }

    /// dy/dx where x, or y where the derivative is of that, is `at`.
    pub(super) fn slope(self, at: f64) -> f64 {
        match self {
            UnaryFunction::Relu => if at <= 0.0 { 0.0 } else { 1.0 },
            UnaryFunction::LeakyRelu { slope } => if at <= 0.0 { f64::from(slope) } else { 1.0 },
            UnaryFunction::Elu { .. } if at > 0.0 => 1.0,
            UnaryFunction::Elu { alpha } if alpha >= 0.0 => at + f64::from(alpha),
            UnaryFunction::Elu { alpha } => f64::from(alpha) * at.exp(),
            UnaryFunction::Sigmoid => at * (1.0 - at),
            UnaryFunction::Tanh => 1.0 - at * at,
            UnaryFunction::Silu => sigmoid(at) * (1.0 + at * (1.0 - sigmoid(at))),
            UnaryFunction::Softplus => sigmoid(at),
            UnaryFunction::Exp => at,
            UnaryFunction::Log => 1.0 / at,
            UnaryFunction::Sqrt => 0.5 / at,
            UnaryFunction::Rsqrt => -0.5 * at * at * at,
            UnaryFunction::Reciprocal => -at * at,
            UnaryFunction::Abs => sign(at),
            UnaryFunction::Sign => 0.0,
            UnaryFunction::Neg => -1.0,
            UnaryFunction::Square => 2.0 * at,
            UnaryFunction::Pow { exponent: 0.0 } => 0.0,
            UnaryFunction::Pow { exponent } => f64::from(exponent) * at.powf(f64::from(exponent) - 1.0),
            UnaryFunction::Sin => at.cos(),
            UnaryFunction::Cos => -at.sin(),
            UnaryFunction::Clamp { min, max } if at <= f64::from(min) || at >= f64::from(max) => 0.0,
            UnaryFunction::Clamp { .. } => 1.0,
            UnaryFunction::AddScalar { .. } => 1.0,
        }
    }

    /// Whether it takes an exponential, a logarithm or an angle.
    pub(super) fn is_transcendental(self) -> bool {
        matches!(
            self,
            UnaryFunction::Elu { .. }
                | UnaryFunction::Sigmoid
                | UnaryFunction::Tanh
                | UnaryFunction::Silu
                | UnaryFunction::Softplus
                | UnaryFunction::Exp
                | UnaryFunction::Log
                | UnaryFunction::Pow { .. }
                | UnaryFunction::Sin
                | UnaryFunction::Cos
        )
    }

    /// Refuses constants that no function has.
    pub(super) fn check(self) -> Result<(), String> {
        match self {
            UnaryFunction::LeakyRelu { slope } => finite("slope", slope),
            UnaryFunction::Elu { alpha } => finite("alpha", alpha),
            UnaryFunction::Pow { exponent } => finite("exponent", exponent),
            UnaryFunction::AddScalar { value } => finite("value", value),
            UnaryFunction::Clamp { min, max } if min.is_nan() || max.is_nan() || min > max => {
                Err(format!("attributes min = {min} and max = {max}: min must be at most max"))
            }
            _ => Ok(()),
        }
    }

    /// Operands on which it has a value, all away from kinks.
    pub(super) fn sample_operands(self) -> Vec<(Vec<usize>, Vec<f64>)> {
        let positive = matches!(
            self,
            UnaryFunction::Log | UnaryFunction::Sqrt | UnaryFunction::Rsqrt | UnaryFunction::Pow { .. }
        );
        let wave = |i: usize, factor: f64| {
            let x = factor * (0.7 * i as f64 + 0.1).sin();
            // Nothing nearer to 0 than this, and nothing at the bounds of a clamp.
            let x = if x.abs() < 0.05 { x + 0.1 } else { x };
            if positive { x.abs() } else { x }
        };
        let far = match self {
            UnaryFunction::Log => vec![0.05, 0.2, 0.5, 1.0, 3e4, 1e30],
            UnaryFunction::Pow { .. } | UnaryFunction::Sqrt | UnaryFunction::Rsqrt => vec![0.05, 0.5, 1.0, 2.0, 40.0, 900.0],
            UnaryFunction::Exp => vec![-200.0, -50.0, -1e-4, 1e-4, 30.0, 60.0],
            UnaryFunction::Reciprocal => vec![-1e4, -30.0, -0.05, 0.05, 2.0, 1e5],
            _ => vec![-100.0, -20.0, -0.01, 0.01, 20.0, 100.0],
        };
        vec![
            (vec![2, 7, 33], (0..462).map(|i| wave(i, 3.0)).collect()),
            (vec![1, 6], far),
        ]
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn sign(x: f64) -> f64 {
    if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x }
}

impl OpDef for Unary {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 1)?;
        self.function.check()?;
        float("x", inputs[0])?;
        Ok(vec![inputs[0].clone()])
    }

    fn in_place(&self) -> Vec<(usize, usize)> {
        vec![(0, 0)]
    }

    fn row_operands(&self) -> Option<Vec<usize>> {
        Some(vec![0])
    }

    /// What takes an exponential is as fast as `gelu`.
    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        if self.function.is_transcendental() { OpClass::Gelu } else { OpClass::Stream }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dy = cx.dy("unary")?;
        if !cx.needs[0] {
            return Ok(vec![None]);
        }
        let (grad, ty) = (UnaryGrad { function: self.function }, cx.builder.ty(cx.inputs[0]).clone());
        let dx = match self.function.derivative() {
            Derivative::Identity => dy,
            Derivative::Negated => cx.emit1("dx", Unary { function: UnaryFunction::Neg }, &[dy])?,
            Derivative::Zero => cx.emit1("dx", Zeros { dtype: ty.dtype, shape: ty.shape.to_vec() }, &[])?,
            Derivative::OfInput => cx.emit1("dx", grad, &[dy, cx.inputs[0]])?,
            Derivative::OfOutput => cx.emit1("dx", grad, &[dy, cx.outputs[0]])?,
        };
        Ok(vec![Some(dx)])
    }

    /// An exponential counts as ten operations.
    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::pointwise(if self.function.is_transcendental() { 14.0 } else { 1.0 }, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        vec![inputs[0].map(|x| self.function.value(x))]
    }

    fn samples() -> Vec<Sample> {
        let of = |function: UnaryFunction| {
            let operands = function.sample_operands().into_iter();
            operands.map(move |(shape, data)| Sample::new(Unary { function }).f32(shape, data))
        };
        UnaryFunction::SOME.into_iter().flat_map(of).collect()
    }
}
