//! GeGLU: `y = gelu(gate) * up`, with either form of GELU. Elementwise; bound by memory. Look at `gelu.rs` for the forms.

use super::gelu::{Curve, Exact, Tanh};
use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use remat_ir::ops::GeluForm;
use std::marker::PhantomData;

struct Forward<'a, T, C> {
    gate: View<'a, T>,
    up: View<'a, T>,
    y: Out<'a, T>,
    curve: PhantomData<C>,
}

impl<T: Element, C: Curve> Pointwise for Forward<'_, T, C> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let activated = C::value::<S>(T::load::<S>(self.gate.at(i), lanes));
            let y = S::mul(activated, T::load::<S>(self.up.at(i), lanes));
            T::store::<S>(self.y.at(i), y, lanes);
        }
    }
}

/// `y = gelu(gate) * up`; `y` may be `gate` or `up`, in place.
pub fn geglu<'a, T: Element>(
    pool: &ThreadPool,
    form: GeluForm,
    gate: impl Into<View<'a, T>>,
    up: impl Into<View<'a, T>>,
    y: impl Into<Out<'a, T>>,
) {
    let (gate, up, y) = (gate.into(), up.into(), y.into());
    let len = y.len();
    assert_eq!([gate.len(), up.len()], [len; 2], "geglu: gate, up and y differ in size");
    match form {
        GeluForm::Tanh => for_each(pool, len, &Forward { gate, up, y, curve: PhantomData::<Tanh> }),
        GeluForm::Exact => for_each(pool, len, &Forward { gate, up, y, curve: PhantomData::<Exact> }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::geglu_grad::geglu_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals, wide};
    use remat_ir::ops::{Geglu, GegluGrad, OpDef};
    use remat_ir::{Array, Type};
    use remat_tensor::DType;

    #[test]
    fn forward_and_gradients_of_both_forms_match_their_definitions() {
        for (len, form) in [1, 13, 70, 20_000].into_iter().flat_map(|len| GeluForm::ALL.map(|form| (len, form))) {
            let gate: Vec<f32> = normals(len, 1).iter().map(|x| x * 3.0).collect();
            let (up, dy) = (normals(len, 2), normals(len, 3));
            let ty = Type::new(DType::F32, [len]);
            let [gate_array, up_array, dy_array] = [&gate, &up, &dy].map(|data| Array::new([len], wide(data)));
            let mut want = Geglu { form }.eval(&[&gate_array, &up_array], &[&ty]);
            want.extend(GegluGrad { form }.eval(&[&dy_array, &gate_array, &up_array], &[&ty, &ty]));
            every_level(
                |pool| {
                    let mut out = [(); 3].map(|()| vec![f32::NAN; len]);
                    let [y, dgate, dup] = &mut out;
                    geglu(pool, form, &gate, &up, y);
                    let operands = [&dy, &gate, &up].map(|operand| operand.into());
                    geglu_grad(pool, form, operands, [dgate.into(), dup.into()]);
                    out.to_vec()
                },
                |level, got| {
                    for (got, want) in got.iter().zip(&want) {
                        let scale: Vec<f64> = (0..len)
                            .map(|i| {
                                (1.0 + f64::from(gate[i].abs())) * (1.0 + f64::from(up[i].abs() + dy[i].abs())).powi(2)
                            })
                            .collect();
                        assert_near(level, got, &want.data, &scale, 4e-6);
                    }
                },
            );
        }
    }
}
