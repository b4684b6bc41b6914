//! The plain elementwise ops: `add`, `scale`, `accumulate` and `cast`. Bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

struct Add<'a, T> {
    a: &'a [T],
    b: &'a [T],
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Add<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let (a, b) = (T::load::<S>(self.a.as_ptr().add(i), lanes), T::load::<S>(self.b.as_ptr().add(i), lanes));
            T::store::<S>(self.y.at(i), S::add(a, b), lanes);
        }
    }
}

/// `y = a + b`.
pub fn add<T: Element>(pool: &ThreadPool, a: &[T], b: &[T], y: &mut [T]) {
    assert_eq!([a.len(), b.len()], [y.len(); 2], "add: operands differ in size");
    for_each(pool, a.len(), &Add { a, b, y: Out::new(y) });
}

struct Scale<'a, X, Y> {
    x: &'a [X],
    factor: f32,
    y: Out<'a, Y>,
}

impl<X: Element, Y: Element> Pointwise for Scale<'_, X, Y> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = X::load::<S>(self.x.as_ptr().add(i), lanes);
            Y::store::<S>(self.y.at(i), S::mul(x, S::splat(self.factor)), lanes);
        }
    }
}

/// `y = factor * x`.
pub fn scale<T: Element>(pool: &ThreadPool, x: &[T], factor: f32, y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "scale: x and y differ in size");
    for_each(pool, x.len(), &Scale { x, factor, y: Out::new(y) });
}

/// `y = x` in another element type, rounded once.
pub fn cast<X: Element, Y: Element>(pool: &ThreadPool, x: &[X], y: &mut [Y]) {
    assert_eq!(x.len(), y.len(), "cast: x and y differ in size");
    // Multiplying by one is exact and keeps NaN.
    for_each(pool, x.len(), &Scale { x, factor: 1.0, y: Out::new(y) });
}

struct Accumulate<'a, X, Y> {
    x: &'a [X],
    sum: Out<'a, Y>,
}

impl<X: Element, Y: Element> Pointwise for Accumulate<'_, X, Y> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let sum = Y::load::<S>(self.sum.at(i), lanes);
            Y::store::<S>(self.sum.at(i), S::add(sum, X::load::<S>(self.x.as_ptr().add(i), lanes)), lanes);
        }
    }
}

/// `sum += x`, in place.
pub fn accumulate<X: Element, Y: Element>(pool: &ThreadPool, x: &[X], sum: &mut [Y]) {
    assert_eq!(x.len(), sum.len(), "accumulate: x and the sum differ in size");
    for_each(pool, x.len(), &Accumulate { x, sum: Out::new(sum) });
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::testing::{every_level, normals};

    #[test]
    fn each_element_is_one_rounding_of_the_exact_result() {
        for len in [1, 15, 70, 33_000] {
            let (a, b) = (normals(len, 1), normals(len, 2));
            every_level(
                |pool| {
                    let mut out = [(); 3].map(|()| vec![f32::NAN; len]);
                    let [sum, scaled, accumulated] = &mut out;
                    add(pool, &a, &b, sum);
                    scale(pool, &a, 0.37, scaled);
                    accumulated.copy_from_slice(&b);
                    accumulate(pool, &a, accumulated);
                    out.to_vec()
                },
                |_, got| {
                    for i in 0..len {
                        assert_eq!(got[0][i], a[i] + b[i]);
                        assert_eq!(got[1][i], a[i] * 0.37);
                        assert_eq!(got[2][i], b[i] + a[i]);
                    }
                },
            );
        }
    }

    #[test]
    fn bf16_rounds_to_nearest_even_at_every_level_and_position() {
        let mut x = normals(70, 1);
        // Ties both ways, the largest, what rounds to infinity, subnormals, and not a number with low bits only.
        x.extend([
            1.00390625,
            1.01171875,
            f32::MAX,
            3.3961775e38,
            f32::INFINITY,
            -0.0,
            1e-40,
            f32::from_bits(0x7f80_0001),
        ]);
        for pool in crate::testing::pools(&[1]) {
            let (mut y, mut back) = (vec![bf16::ZERO; x.len()], vec![0.0; x.len()]);
            cast(&pool, &x, &mut y);
            cast(&pool, &y, &mut back);
            for (i, &x) in x.iter().enumerate() {
                let want = bf16::from_f32(x);
                assert!(y[i].to_bits() == want.to_bits() || (x.is_nan() && y[i].is_nan()), "{x}: {} {want}", y[i]);
                assert!(back[i] == want.to_f32() || x.is_nan());
            }
        }
    }
}
