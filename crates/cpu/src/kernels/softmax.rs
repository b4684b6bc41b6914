//! Softmax and its logarithm along rows. Two exponentials for each element; bound by those, or by memory where rows are long.
//!
//! Numbers: the largest of a row is taken off; sums of 512 exponentials in vectors, these in f64 in order. Nothing is stored that is
//! not a result, so that it works in place and rounds once.

use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::exp;

/// Elements that are summed in vectors.
const SUMMED: usize = 512;

/// The sum of a function of elements `0..len`, given by their first and how many they are.
#[inline(always)]
pub(super) unsafe fn row_sum<S: Simd>(len: usize, term: impl Fn(usize, usize) -> S::V) -> f64 {
    let mut sum = 0.0;
    for from in (0..len).step_by(SUMMED) {
        unsafe {
            let mut lanes_sum = S::splat(0.0);
            for_lanes!(S, SUMMED.min(len - from), |i, lanes| {
                let mut terms = term(from + i, lanes);
                if lanes < S::LANES {
                    let mut some = [0.0; 16];
                    S::store_partial(some.as_mut_ptr(), terms, lanes);
                    terms = S::load(some.as_ptr());
                }
                lanes_sum = S::add(lanes_sum, terms);
            });
            sum += f64::from(S::sum(lanes_sum));
        }
    }
    sum
}

struct Rows<'a, T> {
    width: usize,
    log: bool,
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> Rows<'_, T> {
    /// The largest element; it need not be found where there is NaN, which spoils the sum anyway.
    #[inline(always)]
    unsafe fn largest<S: Simd>(&self, start: usize) -> f32 {
        let whole = self.width / S::LANES * S::LANES;
        unsafe {
            let mut most = S::splat(f32::NEG_INFINITY);
            for i in (0..whole).step_by(S::LANES) {
                most = S::max(most, T::load::<S>(self.x.at(start + i), S::LANES));
            }
            let tail = (whole..self.width).map(|i| (*self.x.at(start + i)).to_f32());
            tail.fold(S::fold_max(most), f32::max)
        }
    }
}

impl<T: Element> Kernel for Rows<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let (each, rows) = (rows_per_task(self.width), self.x.len() / self.width);
        for row in task * each..((task + 1) * each).min(rows) {
            let start = row * self.width;
            unsafe {
                let largest = S::splat(self.largest::<S>(start));
                // Bounded for lanes behind the row's end; NaN stays NaN.
                let below = |i: usize, lanes: usize| {
                    S::min(S::splat(0.0), S::sub(T::load::<S>(self.x.at(start + i), lanes), largest))
                };
                let sum = row_sum::<S>(self.width, |i, lanes| exp::<S>(below(i, lanes)));
                let (inverse, log) = (S::splat((1.0 / sum) as f32), S::splat(sum.ln() as f32));
                for_lanes!(S, self.width, |i, lanes| {
                    let x = below(i, lanes);
                    let y = if self.log { S::sub(x, log) } else { S::mul(exp::<S>(x), inverse) };
                    T::store::<S>(self.y.at(start + i), y, lanes);
                });
            }
        }
    }
}

/// `y` is the softmax of each row of x, of `width` elements, or its logarithm; `y` may be `x`, in place.
pub fn softmax<'a, T: Element>(
    pool: &ThreadPool,
    width: usize,
    log: bool,
    x: impl Into<View<'a, T>>,
    y: impl Into<Out<'a, T>>,
) {
    let (x, y) = (x.into(), y.into());
    assert!(x.len() == y.len() && x.len().is_multiple_of(width), "softmax: x and y are not rows of {width}");
    launch(pool, (x.len() / width).div_ceil(rows_per_task(width)), &Rows { width, log, x, y });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pools;

    #[test]
    fn masked_elements_count_nothing_and_a_row_of_nothing_else_is_not_a_number() {
        let inf = f32::NEG_INFINITY;
        for pool in pools(&[1]) {
            let mut y = [0.5; 6];
            softmax(&pool, 3, false, &[inf, 0.0, 0.0, inf, inf, inf][..], &mut y[..]);
            assert_eq!(y[..3], [0.0, 0.5, 0.5], "{}", pool.level());
            assert!(y[3..].iter().all(|y| y.is_nan()), "{}: {y:?}", pool.level());
            softmax(&pool, 3, true, &[inf, 0.0, 0.0, 1.0, f32::NAN, 2.0][..], &mut y[..]);
            assert_eq!(y[0], inf);
            assert!(y[3..].iter().all(|y| y.is_nan()), "{}: {y:?}", pool.level());
        }
    }
}
