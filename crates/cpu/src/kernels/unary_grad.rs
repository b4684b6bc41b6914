//! Derivatives of functions of one number, element-wise: `dx = dy * f'`. Bound by memory, as `unary.rs`.

use super::curves::{Curve, WithCurve, choose};
use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use remat_ir::ops::UnaryFunction;

struct Backward<'a, T, C> {
    dy: View<'a, T>,
    at: View<'a, T>,
    dx: Out<'a, T>,
    curve: C,
}

impl<T: Element, C: Curve> Pointwise for Backward<'_, T, C> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let slope = self.curve.slope::<S>(T::load::<S>(self.at.at(i), lanes));
            T::store::<S>(self.dx.at(i), S::mul(T::load::<S>(self.dy.at(i), lanes), slope), lanes);
        }
    }
}

struct Call<'a, T> {
    pool: &'a ThreadPool,
    dy: View<'a, T>,
    at: View<'a, T>,
    dx: Out<'a, T>,
}

impl<T: Element> WithCurve for Call<'_, T> {
    fn run<C: Curve>(self, curve: C) {
        let Call { pool, dy, at, dx } = self;
        for_each(pool, dy.len(), &Backward { dy, at, dx, curve });
    }
}

/// `dx = dy * f'`, the slope from x or y, whichever the function's derivative is of; `dx` may be either operand, in place.
pub fn unary_grad<'a, T: Element>(
    pool: &ThreadPool,
    function: UnaryFunction,
    dy: impl Into<View<'a, T>>,
    at: impl Into<View<'a, T>>,
    dx: impl Into<Out<'a, T>>,
) {
    let (dy, at, dx) = (dy.into(), at.into(), dx.into());
    assert_eq!([dy.len(), at.len()], [dx.len(); 2], "unary_grad: operands differ in size");
    choose(function, Call { pool, dy, at, dx });
}
