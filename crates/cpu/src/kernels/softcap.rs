//! A soft bound: `y = cap * tanh(x / cap)`. Elementwise; bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use crate::vector_math::capped;

struct Forward<'a, T> {
    cap: f32,
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Forward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let x = T::load::<S>(self.x.at(i), lanes);
            T::store::<S>(self.y.at(i), capped::<S>(x, self.cap), lanes);
        }
    }
}

/// `y = cap * tanh(x / cap)`; `y` may be `x`, in place.
pub fn softcap<'a, T: Element>(pool: &ThreadPool, cap: f32, x: impl Into<View<'a, T>>, y: impl Into<Out<'a, T>>) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "softcap: x and y differ in size");
    for_each(pool, x.len(), &Forward { cap, x, y });
}

#[cfg(test)]
mod tests {
    use super::super::softcap_grad::softcap_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals, wide};
    use remat_ir::ops::{OpDef, Softcap, SoftcapGrad};
    use remat_ir::{Array, Type};
    use remat_tensor::DType;

    #[test]
    fn forward_and_gradient_match_their_definitions() {
        for (len, cap) in [(1, 2.0), (13, 0.5), (70, 30.0), (20_000, 3.0)] {
            let x: Vec<f32> = normals(len, 1).iter().map(|x| x * 4.0).collect();
            let dy = normals(len, 2);
            let ty = Type::new(DType::F32, [len]);
            let y_array = Softcap { cap }.eval(&[&Array::new([len], wide(&x))], &[&ty]).remove(0);
            let dx = SoftcapGrad { cap }.eval(&[&Array::new([len], wide(&dy)), &y_array], &[&ty]).remove(0).data;
            every_level(
                |pool| {
                    let (mut y, mut dx) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                    softcap(pool, cap, &x, &mut y);
                    softcap_grad(pool, cap, &dy, &y, &mut dx);
                    vec![y, dx]
                },
                |level, got| {
                    let scale: Vec<f64> = y_array.data.iter().map(|y| y.abs() + 1e-6).collect();
                    assert_near(level, &got[0], &y_array.data, &scale, 1e-6);
                    assert_near(level, &got[1], &dx, &vec![5.0; len], 1e-6);
                },
            );
        }
    }
}
