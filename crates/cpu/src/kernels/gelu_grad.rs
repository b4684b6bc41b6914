//! Gradient of both forms of GELU. Elementwise; bound by memory. Look at `gelu.rs` for the formulas.

use super::gelu::{Curve, Exact, Tanh};
use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use remat_ir::ops::GeluForm;
use std::marker::PhantomData;

struct Backward<'a, T, C> {
    dy: View<'a, T>,
    x: View<'a, T>,
    dx: Out<'a, T>,
    curve: PhantomData<C>,
}

impl<T: Element, C: Curve> Pointwise for Backward<'_, T, C> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let slope = C::slope::<S>(T::load::<S>(self.x.at(i), lanes));
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
        GeluForm::Tanh => for_each(pool, x.len(), &Backward { dy, x, dx, curve: PhantomData::<Tanh> }),
        GeluForm::Exact => for_each(pool, x.len(), &Backward { dy, x, dx, curve: PhantomData::<Exact> }),
    }
}
