//! The functions of `unary` on vectors: their values and their slopes. NaN gives NaN.
//!
//! Invariant: a lane's result depends on that lane alone. What has no vector form here (ln, sin, cos, powers) is computed lane by
//! lane by `libm`, whose results are the same on every machine.

use crate::simd::Simd;
use crate::vector_math::{exp, lane_by_lane, sigmoid, tanh};
use remat_ir::ops::UnaryFunction;

/// A function of one number.
///
/// # Safety
/// Of both: the machine runs level `S`.
pub(super) trait Curve: Sync {
    unsafe fn value<S: Simd>(&self, x: S::V) -> S::V;
    /// The slope where x, or y where it follows from that (`UnaryFunction::derivative`), is `at`.
    unsafe fn slope<S: Simd>(&self, at: S::V) -> S::V;
}

/// What is done with a function once it is known.
pub(super) trait WithCurve {
    fn run<C: Curve>(self, curve: C);
}

/// Declares functions: struct, constants, value and slope.
macro_rules! curves {
    ($($name:ident($($constant:ident),*) $S:ident |$x:ident| $value:expr, |$at:ident| $slope:expr;)*) => {
        $(
            struct $name { $($constant: f32,)* }
            impl Curve for $name {
                #[inline(always)]
                #[allow(unused_unsafe)]
                unsafe fn value<$S: Simd>(&self, $x: $S::V) -> $S::V {
                    $(let $constant = self.$constant;)*
                    unsafe { $value }
                }
                #[inline(always)]
                #[allow(unused_variables, unused_unsafe)]
                unsafe fn slope<$S: Simd>(&self, $at: $S::V) -> $S::V {
                    $(let $constant = self.$constant;)*
                    unsafe { $slope }
                }
            }
        )*
    };
}

/// `x > 0 ? yes : no`; `yes` where x is NaN.
#[inline(always)]
unsafe fn above_zero<S: Simd>(x: S::V, yes: S::V, no: S::V) -> S::V {
    unsafe { S::select_ge(S::splat(0.0), x, no, yes) }
}

#[inline(always)]
unsafe fn negated<S: Simd>(x: S::V) -> S::V {
    unsafe { S::mul(x, S::splat(-1.0)) }
}

/// −1, 0 or 1; NaN stays NaN.
#[inline(always)]
unsafe fn sign<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let at_least = S::select_ge(S::splat(0.0), x, S::splat(0.0), S::splat(1.0));
        S::select_ge(x, S::splat(0.0), at_least, S::select_ge(S::splat(0.0), x, S::splat(-1.0), x))
    }
}

/// `e^x - 1` for x <= 0, without cancellation: 2 t / (1 - t) with t = tanh(x / 2).
#[inline(always)]
unsafe fn exp_less_one<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let t = tanh::<S>(S::mul(x, S::splat(0.5)));
        S::div(S::add(t, t), S::sub(S::splat(1.0), t))
    }
}

/// From here on `e^x` is infinite in f32.
const EXP_OVERFLOW: f32 = 88.722_84;

/// `e^x` for any x.
#[inline(always)]
pub(super) unsafe fn exp_anywhere<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let bounded = exp::<S>(S::min(S::splat(EXP_OVERFLOW), x));
        S::select_ge(x, S::splat(EXP_OVERFLOW), S::splat(f32::INFINITY), bounded)
    }
}

curves! {
    Relu() S |x| S::max(S::splat(0.0), x), |y| above_zero::<S>(y, S::splat(1.0), S::splat(0.0));
    LeakyRelu(slope) S |x| above_zero::<S>(x, x, S::mul(S::splat(slope), x)),
        |at| above_zero::<S>(at, S::splat(1.0), S::splat(slope));
    Elu(alpha) S |x| above_zero::<S>(x, x, S::mul(S::splat(alpha), exp_less_one::<S>(S::min(S::splat(0.0), x)))),
        |y| above_zero::<S>(y, S::splat(1.0), S::add(y, S::splat(alpha)));
    // With a negative alpha y does not tell where x is.
    EluOfInput(alpha) S |x| Elu { alpha }.value::<S>(x),
        |x| above_zero::<S>(x, S::splat(1.0), S::mul(S::splat(alpha), exp::<S>(S::min(S::splat(0.0), x))));
    Sigmoid() S |x| sigmoid::<S>(x).0, |y| S::mul(y, S::sub(S::splat(1.0), y));
    Tanh() S |x| tanh::<S>(x), |y| S::fma(negated::<S>(y), y, S::splat(1.0));
    Silu() S |x| S::mul(x, sigmoid::<S>(x).0), |x| {
        let (s, rest) = sigmoid::<S>(x);
        S::mul(s, S::fma(x, rest, S::splat(1.0)))
    };
    Softplus() S |x| {
        let size = S::max(negated::<S>(x), x);
        let tail = lane_by_lane::<S>(exp::<S>(negated::<S>(size)), libm::log1pf);
        S::add(S::max(S::splat(0.0), x), tail)
    }, |x| sigmoid::<S>(x).0;
    Exp() S |x| exp_anywhere::<S>(x), |y| y;
    Log() S |x| lane_by_lane::<S>(x, libm::logf), |x| S::div(S::splat(1.0), x);
    Sqrt() S |x| S::sqrt(x), |y| S::div(S::splat(0.5), y);
    Rsqrt() S |x| S::div(S::splat(1.0), S::sqrt(x)), |y| S::mul(S::mul(S::splat(-0.5), y), S::mul(y, y));
    Reciprocal() S |x| S::div(S::splat(1.0), x), |y| S::mul(negated::<S>(y), y);
    Abs() S |x| S::max(negated::<S>(x), x), |x| sign::<S>(x);
    Sign() S |x| sign::<S>(x), |x| S::splat(0.0);
    Neg() S |x| negated::<S>(x), |x| S::splat(-1.0);
    Square() S |x| S::mul(x, x), |x| S::add(x, x);
    Pow(exponent) S |x| lane_by_lane::<S>(x, |x| libm::powf(x, exponent)), |x| {
        let power = lane_by_lane::<S>(x, |x| libm::powf(x, exponent - 1.0));
        // Where nothing depends on x, its slope is 0 at 0, too.
        if exponent == 0.0 { S::splat(0.0) } else { S::mul(S::splat(exponent), power) }
    };
    Sin() S |x| lane_by_lane::<S>(x, libm::sinf), |x| lane_by_lane::<S>(x, libm::cosf);
    Cos() S |x| lane_by_lane::<S>(x, libm::cosf), |x| negated::<S>(lane_by_lane::<S>(x, libm::sinf));
    Clamp(min, max) S |x| S::min(S::splat(max), S::max(S::splat(min), x)), |x| {
        let below = S::select_ge(x, S::splat(max), S::splat(0.0), S::splat(1.0));
        S::select_ge(S::splat(min), x, S::splat(0.0), below)
    };
    AddScalar(value) S |x| S::add(x, S::splat(value)), |x| S::splat(1.0);
}

/// Runs `with` on the function.
pub(super) fn choose(function: UnaryFunction, with: impl WithCurve) {
    match function {
        UnaryFunction::Relu => with.run(Relu {}),
        UnaryFunction::LeakyRelu { slope } => with.run(LeakyRelu { slope }),
        UnaryFunction::Elu { alpha } if alpha >= 0.0 => with.run(Elu { alpha }),
        UnaryFunction::Elu { alpha } => with.run(EluOfInput { alpha }),
        UnaryFunction::Sigmoid => with.run(Sigmoid {}),
        UnaryFunction::Tanh => with.run(Tanh {}),
        UnaryFunction::Silu => with.run(Silu {}),
        UnaryFunction::Softplus => with.run(Softplus {}),
        UnaryFunction::Exp => with.run(Exp {}),
        UnaryFunction::Log => with.run(Log {}),
        UnaryFunction::Sqrt => with.run(Sqrt {}),
        UnaryFunction::Rsqrt => with.run(Rsqrt {}),
        UnaryFunction::Reciprocal => with.run(Reciprocal {}),
        UnaryFunction::Abs => with.run(Abs {}),
        UnaryFunction::Sign => with.run(Sign {}),
        UnaryFunction::Neg => with.run(Neg {}),
        UnaryFunction::Square => with.run(Square {}),
        UnaryFunction::Pow { exponent } => with.run(Pow { exponent }),
        UnaryFunction::Sin => with.run(Sin {}),
        UnaryFunction::Cos => with.run(Cos {}),
        UnaryFunction::Clamp { min, max } => with.run(Clamp { min, max }),
        UnaryFunction::AddScalar { value } => with.run(AddScalar { value }),
    }
}
