//! A value with every element equal. Bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

struct Fill<'a, T> {
    value: f32,
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Fill<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe { T::store::<S>(self.y.at(i), S::splat(self.value), lanes) }
    }
}

/// `y[i] = value`.
pub fn broadcast<T: Element>(pool: &ThreadPool, value: f32, y: &mut [T]) {
    for_each(pool, y.len(), &Fill { value, y: y.into() });
}

#[cfg(test)]
mod tests {
    use super::super::zeros::zeros;
    use super::*;

    #[test]
    fn fills_every_element() {
        for pool in crate::testing::pools(&[1, 2]) {
            for len in [1, 17, 70, 40_000] {
                let mut y = vec![f32::NAN; len];
                broadcast(&pool, 2.5, &mut y);
                assert!(y.iter().all(|y| *y == 2.5));
                zeros(&pool, &mut y);
                assert!(y.iter().all(|y| y.to_bits() == 0));
            }
        }
    }
}
