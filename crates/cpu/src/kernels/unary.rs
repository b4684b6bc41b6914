//! Functions of one number, element-wise: `y = f(x)`. Bound by memory, but for what takes a logarithm, an angle or a power.
//! Look at `curves.rs` for the functions.

use super::curves::{Curve, WithCurve, choose};
use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use remat_ir::ops::UnaryFunction;

struct Forward<'a, T, C> {
    x: View<'a, T>,
    y: Out<'a, T>,
    curve: C,
}

impl<T: Element, C: Curve> Pointwise for Forward<'_, T, C> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.at(i), lanes);
            T::store::<S>(self.y.at(i), self.curve.value::<S>(x), lanes);
        }
    }
}

struct Call<'a, T> {
    pool: &'a ThreadPool,
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> WithCurve for Call<'_, T> {
    fn run<C: Curve>(self, curve: C) {
        let Call { pool, x, y } = self;
        for_each(pool, x.len(), &Forward { x, y, curve });
    }
}

/// `y = f(x)`; `y` may be `x`, in place.
pub fn unary<'a, T: Element>(
    pool: &ThreadPool,
    function: UnaryFunction,
    x: impl Into<View<'a, T>>,
    y: impl Into<Out<'a, T>>,
) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "unary: x and y differ in size");
    choose(function, Call { pool, x, y });
}

#[cfg(test)]
mod tests {
    use super::super::unary_grad::unary_grad;
    use super::*;
    use crate::testing::pools;

    #[test]
    fn ends_of_the_numbers_give_what_pytorch_gives() {
        let inf = f32::INFINITY;
        let cases = [
            (UnaryFunction::Relu, [-inf, inf], [0.0, inf]),
            (UnaryFunction::Sigmoid, [-inf, inf], [0.0, 1.0]),
            (UnaryFunction::Tanh, [-inf, inf], [-1.0, 1.0]),
            (UnaryFunction::Elu { alpha: 2.0 }, [-inf, inf], [-2.0, inf]),
            (UnaryFunction::Softplus, [-inf, inf], [0.0, inf]),
            (UnaryFunction::Exp, [-inf, inf], [0.0, inf]),
            (UnaryFunction::Exp, [-1000.0, 88.8], [0.0, inf]),
            (UnaryFunction::Log, [0.0, inf], [-inf, inf]),
            (UnaryFunction::Sqrt, [0.0, inf], [0.0, inf]),
            (UnaryFunction::Rsqrt, [0.0, inf], [inf, 0.0]),
            (UnaryFunction::Reciprocal, [0.0, inf], [inf, 0.0]),
            (UnaryFunction::Sign, [-inf, 0.0], [-1.0, 0.0]),
            (UnaryFunction::Clamp { min: -1.0, max: inf }, [-inf, inf], [-1.0, inf]),
            (UnaryFunction::Pow { exponent: 0.0 }, [0.0, inf], [1.0, 1.0]),
        ];
        for pool in pools(&[1]) {
            for (function, x, want) in cases {
                let mut y = [f32::NAN; 2];
                unary(&pool, function, &x[..], &mut y[..]);
                // Below e^-86 a sigmoid is as good as 0.
                let near = |(y, want): (&f32, &f32)| y == want || (y - want).abs() < 1e-37;
                assert!(y.iter().zip(&want).all(near), "{}: {function:?} of {x:?} is {y:?}", pool.level());
            }
            let nearly = 88.72_f32;
            let mut y = [0.0];
            unary(&pool, UnaryFunction::Exp, &[nearly][..], &mut y[..]);
            assert!((f64::from(y[0]) / f64::from(nearly).exp() - 1.0).abs() < 1e-6, "{}: {}", pool.level(), y[0]);
        }
    }

    #[test]
    fn what_is_not_a_number_stays_so() {
        for pool in pools(&[1]) {
            for function in UnaryFunction::SOME.into_iter().filter(|&f| f != UnaryFunction::Pow { exponent: 0.0 }) {
                let (x, mut y) = ([1.0, f32::NAN, 2.0], [0.0; 3]);
                unary(&pool, function, &x[..], &mut y[..]);
                assert_eq!(y.map(f32::is_nan), [false, true, false], "{}: {function:?}", pool.level());
            }
        }
    }

    #[test]
    fn slopes_at_kinks_are_those_of_pytorch() {
        let cases = [
            (UnaryFunction::Relu, 0.0, 0.0),
            (UnaryFunction::LeakyRelu { slope: 0.1 }, 0.0, 0.1),
            (UnaryFunction::Elu { alpha: 1.5 }, 0.0, 1.5),
            (UnaryFunction::Abs, 0.0, 0.0),
            (UnaryFunction::Clamp { min: -1.0, max: 1.0 }, 1.0, 0.0),
            (UnaryFunction::Clamp { min: -1.0, max: 1.0 }, -1.0, 0.0),
            (UnaryFunction::Clamp { min: -1.0, max: 1.0 }, 0.9, 1.0),
            (UnaryFunction::Pow { exponent: 0.0 }, 0.0, 0.0),
            (UnaryFunction::Pow { exponent: 2.0 }, 0.0, 0.0),
        ];
        for pool in pools(&[1]) {
            for (function, at, want) in cases {
                let mut dx = [f32::NAN];
                unary_grad(&pool, function, &[1.0][..], &[at][..], &mut dx[..]);
                assert_eq!(dx[0], want, "{}: {function:?} at {at}", pool.level());
            }
        }
    }
}
