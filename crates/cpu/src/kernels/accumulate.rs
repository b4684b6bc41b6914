//! Sum in place: `sum += x`. Bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;

struct Accumulate<'a, X, Y> {
    x: View<'a, X>,
    sum: Out<'a, Y>,
}

impl<X: Element, Y: Element> Pointwise for Accumulate<'_, X, Y> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let sum = Y::load::<S>(self.sum.at(i), lanes);
            Y::store::<S>(self.sum.at(i), S::add(sum, X::load::<S>(self.x.at(i), lanes)), lanes);
        }
    }
}

/// `sum += x`, in place.
pub fn accumulate<X: Element, Y: Element>(pool: &ThreadPool, x: &[X], sum: &mut [Y]) {
    assert_eq!(x.len(), sum.len(), "accumulate: x and the sum differ in size");
    for_each(pool, x.len(), &Accumulate { x: x.into(), sum: sum.into() });
}
