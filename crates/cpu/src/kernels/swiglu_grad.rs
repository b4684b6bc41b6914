//! Gradients of SwiGLU. Elementwise; bound by memory. Look at `swiglu.rs` for the forward.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use crate::vector_math::sigmoid;

struct Backward<'a, T> {
    dy: View<'a, T>,
    gate: View<'a, T>,
    up: View<'a, T>,
    dgate: Out<'a, T>,
    dup: Out<'a, T>,
}

impl<T: Element> Pointwise for Backward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let dy = T::load::<S>(self.dy.at(i), lanes);
            let gate = T::load::<S>(self.gate.at(i), lanes);
            let up = T::load::<S>(self.up.at(i), lanes);
            let (s, rest) = sigmoid::<S>(gate);
            let silu = S::mul(gate, s);
            let slope = S::fma(silu, rest, s);
            T::store::<S>(self.dgate.at(i), S::mul(S::mul(dy, up), slope), lanes);
            T::store::<S>(self.dup.at(i), S::mul(dy, silu), lanes);
        }
    }
}

/// `dgate = dy * up * silu'(gate)` with `silu'(g) = s + g s (1 - s)`, and `dup = dy * silu(gate)`. In place: each result
/// may be any of the operands.
pub fn swiglu_grad<'a, T: Element>(
    pool: &ThreadPool,
    dy: impl Into<View<'a, T>>,
    gate: impl Into<View<'a, T>>,
    up: impl Into<View<'a, T>>,
    dgate: impl Into<Out<'a, T>>,
    dup: impl Into<Out<'a, T>>,
) {
    let kernel = Backward { dy: dy.into(), gate: gate.into(), up: up.into(), dgate: dgate.into(), dup: dup.into() };
    let Backward { dy, gate, up, dgate, dup } = &kernel;
    let len = dy.len();
    assert_eq!([gate.len(), up.len(), dgate.len(), dup.len()], [len; 4], "swiglu_grad: operands differ in size");
    for_each(pool, len, &kernel);
}
