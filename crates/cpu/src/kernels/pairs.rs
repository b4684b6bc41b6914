//! The functions of `binary` on vectors: their values and their slopes.
//!
//! Invariant: a lane's result depends on that lane alone. Powers are computed lane by lane by `libm`.

use crate::simd::Simd;
use crate::vector_math::lanes_together;
use remat_ir::ops::BinaryFunction;

/// A function of two numbers.
pub(super) trait Pair: Sync {
    /// Its value.
    ///
    /// # Safety
    /// The machine runs level `S`.
    unsafe fn of<S: Simd>(a: S::V, b: S::V) -> S::V;
}

/// What is done with a function once it is known.
pub(super) trait WithPair {
    fn run<P: Pair>(self);
}

/// Declares functions.
macro_rules! pairs {
    ($($name:ident $S:ident |$a:ident, $b:ident| $value:expr;)*) => {
        $(
            struct $name;
            impl Pair for $name {
                #[inline(always)]
                #[allow(unused_variables, unused_unsafe)]
                unsafe fn of<$S: Simd>($a: $S::V, $b: $S::V) -> $S::V {
                    unsafe { $value }
                }
            }
        )*
    };
}

/// 1 where a > b, half where they are equal, else 0.
#[inline(always)]
unsafe fn share<S: Simd>(a: S::V, b: S::V) -> S::V {
    unsafe {
        let at_least = S::select_ge(b, a, S::splat(0.5), S::splat(1.0));
        S::select_ge(a, b, at_least, S::splat(0.0))
    }
}

#[inline(always)]
unsafe fn negated<S: Simd>(x: S::V) -> S::V {
    unsafe { S::mul(x, S::splat(-1.0)) }
}

pairs! {
    Add S |a, b| S::add(a, b);
    Sub S |a, b| S::sub(a, b);
    Mul S |a, b| S::mul(a, b);
    Div S |a, b| S::div(a, b);
    Pow S |a, b| lanes_together::<S>(a, b, libm::powf);
    // `max` and `min` give b where one is NaN.
    Maximum S |a, b| S::select_ge(a, a, S::max(a, b), a);
    Minimum S |a, b| S::select_ge(a, a, S::min(a, b), a);
    One S |a, b| S::splat(1.0);
    MinusOne S |a, b| S::splat(-1.0);
    First S |a, b| a;
    Second S |a, b| b;
    OneByB S |a, b| S::div(S::splat(1.0), b);
    DivByB S |a, b| S::div(S::div(negated::<S>(a), b), b);
    PowByA S |a, b| lanes_together::<S>(a, b, |a, b| if b == 0.0 { 0.0 } else { b * libm::powf(a, b - 1.0) });
    PowByB S |a, b| lanes_together::<S>(a, b, |a, b| {
        if a == 0.0 && b >= 0.0 { 0.0 } else { libm::powf(a, b) * libm::logf(a) }
    });
    Greater S |a, b| share::<S>(a, b);
    Less S |a, b| share::<S>(b, a);
}

/// Runs `with` on the function.
pub(super) fn choose(function: BinaryFunction, with: impl WithPair) {
    match function {
        BinaryFunction::Add => with.run::<Add>(),
        BinaryFunction::Sub => with.run::<Sub>(),
        BinaryFunction::Mul => with.run::<Mul>(),
        BinaryFunction::Div => with.run::<Div>(),
        BinaryFunction::Pow => with.run::<Pow>(),
        BinaryFunction::Maximum => with.run::<Maximum>(),
        BinaryFunction::Minimum => with.run::<Minimum>(),
    }
}

/// Runs `with` on the function's slope by operand 0 or 1.
pub(super) fn choose_slope(function: BinaryFunction, operand: usize, with: impl WithPair) {
    match (function, operand) {
        (BinaryFunction::Add, _) | (BinaryFunction::Sub, 0) => with.run::<One>(),
        (BinaryFunction::Sub, _) => with.run::<MinusOne>(),
        (BinaryFunction::Mul, 0) => with.run::<Second>(),
        (BinaryFunction::Mul, _) => with.run::<First>(),
        (BinaryFunction::Div, 0) => with.run::<OneByB>(),
        (BinaryFunction::Div, _) => with.run::<DivByB>(),
        (BinaryFunction::Pow, 0) => with.run::<PowByA>(),
        (BinaryFunction::Pow, _) => with.run::<PowByB>(),
        (BinaryFunction::Maximum, 0) | (BinaryFunction::Minimum, 1) => with.run::<Greater>(),
        (BinaryFunction::Maximum, _) | (BinaryFunction::Minimum, _) => with.run::<Less>(),
    }
}
