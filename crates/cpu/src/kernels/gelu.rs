//! GELU, exact or in its tanh form (GPT-2's `gelu_new`). Elementwise; bound by memory.
//!
//! `0.5 x (1 + tanh u) = x * sigmoid(2u)` with `u = sqrt(2/pi) (x + 0.044715 x^3)`, which needs exp alone, as does the normal
//! distribution function of the exact form.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use crate::vector_math::{exp, normal, sigmoid};
use remat_ir::ops::GeluForm;
use std::marker::PhantomData;

/// 2 sqrt(2 / pi).
const TWICE_ROOT: f32 = 1.595_769_1;
const CUBIC: f32 = 0.044_715;
/// 1 / sqrt(2 pi).
const DENSITY_AT_ZERO: f32 = 0.398_942_3;

/// One form of GELU on vectors: its value and its derivative.
///
/// # Safety
/// Of both: the machine runs level `S`.
pub(super) trait Curve: Sync {
    unsafe fn value<S: Simd>(x: S::V) -> S::V;
    unsafe fn slope<S: Simd>(x: S::V) -> S::V;
}

pub(super) struct Tanh;
pub(super) struct Exact;

impl Curve for Tanh {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        unsafe {
            let inner = S::fma(S::mul(x, x), S::splat(CUBIC), S::splat(1.0));
            let (s, _) = sigmoid::<S>(S::mul(S::mul(x, S::splat(TWICE_ROOT)), inner));
            S::mul(x, s)
        }
    }

    #[inline(always)]
    unsafe fn slope<S: Simd>(x: S::V) -> S::V {
        unsafe {
            let square = S::mul(x, x);
            let scaled = S::mul(x, S::splat(TWICE_ROOT));
            let inner = S::fma(square, S::splat(CUBIC), S::splat(1.0));
            let (s, rest) = sigmoid::<S>(S::mul(scaled, inner));
            // x s' = s (1 - s) * x * 2u', and x * 2u' = scaled * (1 + 3 c x^2).
            let turn = S::mul(scaled, S::fma(square, S::splat(3.0 * CUBIC), S::splat(1.0)));
            S::fma(S::mul(s, rest), turn, s)
        }
    }
}

impl Curve for Exact {
    #[inline(always)]
    unsafe fn value<S: Simd>(x: S::V) -> S::V {
        unsafe { S::mul(x, normal::<S>(x)) }
    }

    #[inline(always)]
    unsafe fn slope<S: Simd>(x: S::V) -> S::V {
        unsafe {
            let density = exp::<S>(S::mul(S::mul(x, S::splat(-0.5)), x));
            S::fma(S::mul(x, S::splat(DENSITY_AT_ZERO)), density, normal::<S>(x))
        }
    }
}

struct Forward<'a, T, C> {
    x: View<'a, T>,
    y: Out<'a, T>,
    curve: PhantomData<C>,
}

impl<T: Element, C: Curve> Pointwise for Forward<'_, T, C> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.at(i), lanes);
            T::store::<S>(self.y.at(i), C::value::<S>(x), lanes);
        }
    }
}

/// `y = gelu(x)`; `y` may be `x`, in place.
pub fn gelu<'a, T: Element>(pool: &ThreadPool, form: GeluForm, x: impl Into<View<'a, T>>, y: impl Into<Out<'a, T>>) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "gelu: x and y differ in size");
    match form {
        GeluForm::Tanh => for_each(pool, x.len(), &Forward { x, y, curve: PhantomData::<Tanh> }),
        GeluForm::Exact => for_each(pool, x.len(), &Forward { x, y, curve: PhantomData::<Exact> }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::gelu_grad::gelu_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals};
    use remat_ir::ops::{Gelu, GeluGrad, OpDef};
    use remat_ir::{Array, Type};
    use remat_tensor::{DType, Shape};

    #[test]
    fn forward_and_gradient_of_both_forms_match_their_definitions() {
        for (len, form) in [1, 13, 70, 20_000].into_iter().flat_map(|len| GeluForm::ALL.map(|form| (len, form))) {
            let x: Vec<f32> = normals(len, 1).iter().map(|x| x * 3.0).collect();
            let dy = normals(len, 2);
            let array = |values: &[f32]| Array {
                shape: Shape::from([len]),
                data: values.iter().map(|&x| f64::from(x)).collect(),
            };
            let (ty, x_array, dy_array) = (Type::new(DType::F32, [len]), array(&x), array(&dy));
            let want_y = Gelu { form }.eval(&[&x_array], &[&ty]).remove(0).data;
            let want_dx = GeluGrad { form }.eval(&[&dy_array, &x_array], &[&ty]).remove(0).data;
            every_level(
                |pool| {
                    let (mut y, mut dx) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                    gelu(pool, form, &x, &mut y);
                    gelu_grad(pool, form, &dy, &x, &mut dx);
                    vec![y, dx]
                },
                |level, got| {
                    let scale: Vec<f64> = x.iter().map(|x| f64::from(x.abs()) + 1.0).collect();
                    assert_near(level, &got[0], &want_y, &scale, 1e-6);
                    assert_near(level, &got[1], &want_dx, &scale, 4e-6);
                },
            );
        }
    }
}
