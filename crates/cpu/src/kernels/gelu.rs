//! GELU in its tanh form (GPT-2's `gelu_new`). Elementwise; bound by memory.
//!
//! `0.5 x (1 + tanh u) = x * sigmoid(2u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, which needs exp alone.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use crate::vector_math::sigmoid;

/// 2 sqrt(2 / pi).
pub(super) const TWICE_ROOT: f32 = 1.595_769_1;
pub(super) const CUBIC: f32 = 0.044_715;

struct Forward<'a, T> {
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Forward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.at(i), lanes);
            let inner = S::fma(S::mul(x, x), S::splat(CUBIC), S::splat(1.0));
            let (s, _) = sigmoid::<S>(S::mul(S::mul(x, S::splat(TWICE_ROOT)), inner));
            T::store::<S>(self.y.at(i), S::mul(x, s), lanes);
        }
    }
}

/// `y = gelu(x)`; `y` may be `x`, in place.
pub fn gelu<'a, T: Element>(pool: &ThreadPool, x: impl Into<View<'a, T>>, y: impl Into<Out<'a, T>>) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "gelu: x and y differ in size");
    for_each(pool, x.len(), &Forward { x, y });
}

#[cfg(test)]
mod tests {
    use super::super::gelu_grad::gelu_grad;
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
