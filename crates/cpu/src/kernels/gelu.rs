//! GELU in its tanh form (GPT-2's `gelu_new`), and its gradient. Elementwise; bound by memory.
//!
//! `0.5 x (1 + tanh u) = x * sigmoid(2u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, which needs exp alone.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;
use crate::vector_math::sigmoid;

/// 2 sqrt(2 / pi).
const TWICE_ROOT: f32 = 1.595_769_1;
const CUBIC: f32 = 0.044_715;

struct Forward<'a, T> {
    x: &'a [T],
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Forward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.as_ptr().add(i), lanes);
            let inner = S::fma(S::mul(x, x), S::splat(CUBIC), S::splat(1.0));
            let (s, _) = sigmoid::<S>(S::mul(S::mul(x, S::splat(TWICE_ROOT)), inner));
            T::store::<S>(self.y.at(i), S::mul(x, s), lanes);
        }
    }
}

/// `y = gelu(x)`.
pub fn gelu<T: Element>(pool: &ThreadPool, x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), y.len(), "gelu: x and y differ in size");
    for_each(pool, x.len(), &Forward { x, y: Out::new(y) });
}

struct Backward<'a, T> {
    dy: &'a [T],
    x: &'a [T],
    dx: Out<'a, T>,
}

impl<T: Element> Pointwise for Backward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.as_ptr().add(i), lanes);
            let square = S::mul(x, x);
            let scaled = S::mul(x, S::splat(TWICE_ROOT));
            let inner = S::fma(square, S::splat(CUBIC), S::splat(1.0));
            let (s, rest) = sigmoid::<S>(S::mul(scaled, inner));
            // x s' = s (1 - s) * x * 2u', and x * 2u' = scaled * (1 + 3 c x^2).
            let turn = S::mul(scaled, S::fma(square, S::splat(3.0 * CUBIC), S::splat(1.0)));
            let slope = S::fma(S::mul(s, rest), turn, s);
            T::store::<S>(self.dx.at(i), S::mul(T::load::<S>(self.dy.as_ptr().add(i), lanes), slope), lanes);
        }
    }
}

/// `dx = dy * gelu'(x)`.
pub fn gelu_grad<T: Element>(pool: &ThreadPool, dy: &[T], x: &[T], dx: &mut [T]) {
    assert_eq!([dy.len(), dx.len()], [x.len(); 2], "gelu_grad: operands differ in size");
    for_each(pool, x.len(), &Backward { dy, x, dx: Out::new(dx) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn forward_and_gradient_match_the_tanh_form_in_f64() {
        for len in [1, 13, 70, 20_000] {
            let x: Vec<f32> = normals(len, 1).iter().map(|x| x * 3.0).collect();
            let dy = normals(len, 2);
            let c = (2.0 / std::f64::consts::PI).sqrt();
            let tanh = |x: f64| (c * (x + 0.044715 * x * x * x)).tanh();
            let slope = |x: f64| {
                let t = tanh(x);
                0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * c * (1.0 + 3.0 * 0.044715 * x * x)
            };
            let y: Vec<f64> = x.iter().map(|&x| 0.5 * f64::from(x) * (1.0 + tanh(f64::from(x)))).collect();
            let dx: Vec<f64> = x.iter().zip(&dy).map(|(&x, &dy)| f64::from(dy) * slope(f64::from(x))).collect();
            every_level(
                |pool| {
                    let (mut y, mut dx) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                    gelu(pool, &x, &mut y);
                    gelu_grad(pool, &dy, &x, &mut dx);
                    vec![y, dx]
                },
                |level, got| {
                    let scale: Vec<f64> = x.iter().map(|x| f64::from(x.abs()) + 1.0).collect();
                    assert_near(level, &got[0], &y, &scale, 1e-6);
                    assert_near(level, &got[1], &dx, &scale, 4e-6);
                },
            );
        }
    }
}
