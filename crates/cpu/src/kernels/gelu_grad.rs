//! Gradient of both forms of GELU. Elementwise; bound by memory. Look at `gelu.rs` for the formulas.

use super::gelu::{CUBIC, TWICE_ROOT};
use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use crate::vector_math::{exp, normal, sigmoid};
use remat_ir::ops::GeluForm;

/// 1 / sqrt(2 pi).
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

struct Tanh<'a, T> {
    dy: View<'a, T>,
    x: View<'a, T>,
    dx: Out<'a, T>,
}

impl<T: Element> Pointwise for Tanh<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.at(i), lanes);
            let square = S::mul(x, x);
            let scaled = S::mul(x, S::splat(TWICE_ROOT));
            let inner = S::fma(square, S::splat(CUBIC), S::splat(1.0));
            let (s, rest) = sigmoid::<S>(S::mul(scaled, inner));
            // x s' = s (1 - s) * x * 2u', and x * 2u' = scaled * (1 + 3 c x^2).
            let turn = S::mul(scaled, S::fma(square, S::splat(3.0 * CUBIC), S::splat(1.0)));
            let slope = S::fma(S::mul(s, rest), turn, s);
            T::store::<S>(self.dx.at(i), S::mul(T::load::<S>(self.dy.at(i), lanes), slope), lanes);
        }
    }
}

struct Exact<'a, T> {
    dy: View<'a, T>,
    x: View<'a, T>,
    dx: Out<'a, T>,
}

impl<T: Element> Pointwise for Exact<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.at(i), lanes);
            let density = exp::<S>(S::mul(S::mul(x, S::splat(-0.5)), x));
            let slope = S::fma(S::mul(x, S::splat(DENSITY_AT_ZERO)), density, normal::<S>(x));
            T::store::<S>(self.dx.at(i), S::mul(T::load::<S>(self.dy.at(i), lanes), slope), lanes);
        }
    }
}

/// `dx = dy * gelu'(x)`; `dx` may be `dy` or `x`, in place.
pub fn gelu_grad<'a, T: Element>(
    pool: &ThreadPool,
    form: GeluForm,
    dy: impl Into<View<'a, T>>,
    x: impl Into<View<'a, T>>,
    dx: impl Into<Out<'a, T>>,
) {
    let (dy, x, dx) = (dy.into(), x.into(), dx.into());
    assert_eq!([dy.len(), dx.len()], [x.len(); 2], "gelu_grad: operands differ in size");
    match form {
        GeluForm::Tanh => for_each(pool, x.len(), &Tanh { dy, x, dx }),
        GeluForm::Exact => for_each(pool, x.len(), &Exact { dy, x, dx }),
    }
}
