//! Product with a number: `y = factor * x`. Bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;

pub(super) struct Scale<'a, X, Y> {
    pub(super) x: View<'a, X>,
    pub(super) factor: f32,
    pub(super) y: Out<'a, Y>,
}

impl<X: Element, Y: Element> Pointwise for Scale<'_, X, Y> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = X::load::<S>(self.x.at(i), lanes);
            Y::store::<S>(self.y.at(i), S::mul(x, S::splat(self.factor)), lanes);
        }
    }
}

/// `y = factor * x`; `y` may be `x`, in place.
pub fn scale<'a, T: Element>(pool: &ThreadPool, x: impl Into<View<'a, T>>, factor: f32, y: impl Into<Out<'a, T>>) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "scale: x and y differ in size");
    for_each(pool, x.len(), &Scale { x, factor, y });
}
