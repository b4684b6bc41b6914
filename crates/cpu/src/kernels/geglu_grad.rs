//! Gradients of GeGLU. Elementwise; bound by memory. Look at `geglu.rs` for the forward.

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
    gate: View<'a, T>,
    up: View<'a, T>,
    dgate: Out<'a, T>,
    dup: Out<'a, T>,
    curve: PhantomData<C>,
}

impl<T: Element, C: Curve> Pointwise for Backward<'_, T, C> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let dy = T::load::<S>(self.dy.at(i), lanes);
            let gate = T::load::<S>(self.gate.at(i), lanes);
            let up = T::load::<S>(self.up.at(i), lanes);
            T::store::<S>(self.dgate.at(i), S::mul(S::mul(dy, up), C::slope::<S>(gate)), lanes);
            T::store::<S>(self.dup.at(i), S::mul(dy, C::value::<S>(gate)), lanes);
        }
    }
}

/// `dgate = dy * up * gelu'(gate)` and `dup = dy * gelu(gate)`. In place: each result may be any of the operands.
pub fn geglu_grad<'a, T: Element>(
    pool: &ThreadPool,
    form: GeluForm,
    [dy, gate, up]: [View<'a, T>; 3],
    [dgate, dup]: [Out<'a, T>; 2],
) {
    let len = dy.len();
    assert_eq!([gate.len(), up.len(), dgate.len(), dup.len()], [len; 4], "geglu_grad: operands differ in size");
    match form {
        GeluForm::Tanh => for_each(pool, len, &Backward { dy, gate, up, dgate, dup, curve: PhantomData::<Tanh> }),
        GeluForm::Exact => for_each(pool, len, &Backward { dy, gate, up, dgate, dup, curve: PhantomData::<Exact> }),
    }
}
