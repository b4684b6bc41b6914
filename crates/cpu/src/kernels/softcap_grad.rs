//! Gradient of the soft bound, from its result. Elementwise; bound by memory. Look at `softcap.rs` for the forward.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use crate::vector_math::capped_slope;

struct Backward<'a, T> {
    cap: f32,
    dy: View<'a, T>,
    y: View<'a, T>,
    dx: Out<'a, T>,
}

impl<T: Element> Pointwise for Backward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let slope = capped_slope::<S>(T::load::<S>(self.y.at(i), lanes), self.cap);
            T::store::<S>(self.dx.at(i), S::mul(T::load::<S>(self.dy.at(i), lanes), slope), lanes);
        }
    }
}

/// `dx = dy * (1 - (y / cap)^2)`; `dx` may be `dy` or `y`, in place.
pub fn softcap_grad<'a, T: Element>(
    pool: &ThreadPool,
    cap: f32,
    dy: impl Into<View<'a, T>>,
    y: impl Into<View<'a, T>>,
    dx: impl Into<Out<'a, T>>,
) {
    let kernel = Backward { cap, dy: dy.into(), y: y.into(), dx: dx.into() };
    let len = kernel.dx.len();
    assert_eq!([kernel.dy.len(), kernel.y.len()], [len; 2], "softcap_grad: operands differ in size");
    for_each(pool, len, &kernel);
}
