//! `add_gradient`: `sum += g; g = 0`. Bound by memory: two arrays read and written.

use super::pointwise::{Pointwise, for_each};
use crate::element::Lanes;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

struct Addition<'a> {
    sum: Out<'a, f32>,
    g: Out<'a, f32>,
}

impl Pointwise for Addition<'_> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let sum = S::add(f32::load::<S>(self.sum.at(i), lanes), f32::load::<S>(self.g.at(i), lanes));
            f32::store::<S>(self.sum.at(i), sum, lanes);
            f32::store::<S>(self.g.at(i), S::splat(0.0), lanes);
        }
    }
}

/// Adds `g` to `sum`, element by element, then sets it to zero.
pub fn add_gradient(pool: &ThreadPool, sum: &mut [f32], g: &mut [f32]) {
    assert_eq!(g.len(), sum.len(), "add_gradient: the sum and the gradient differ in size");
    for_each(pool, sum.len(), &Addition { sum: Out::new(sum), g: Out::new(g) });
}
