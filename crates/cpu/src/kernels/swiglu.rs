//! SwiGLU: `y = silu(gate) * up` with `silu(g) = g * sigmoid(g)`. Elementwise; bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use crate::vector_math::sigmoid;

struct Forward<'a, T> {
    gate: View<'a, T>,
    up: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Forward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let gate = T::load::<S>(self.gate.at(i), lanes);
            let (s, _) = sigmoid::<S>(gate);
            let y = S::mul(S::mul(gate, s), T::load::<S>(self.up.at(i), lanes));
            T::store::<S>(self.y.at(i), y, lanes);
        }
    }
}

/// `y = silu(gate) * up`; `y` may be `gate` or `up`, in place.
pub fn swiglu<'a, T: Element>(
    pool: &ThreadPool,
    gate: impl Into<View<'a, T>>,
    up: impl Into<View<'a, T>>,
    y: impl Into<Out<'a, T>>,
) {
    let (gate, up, y) = (gate.into(), up.into(), y.into());
    let len = y.len();
    assert_eq!([gate.len(), up.len()], [len; 2], "swiglu: gate, up and y differ in size");
    for_each(pool, len, &Forward { gate, up, y });
}

#[cfg(test)]
mod tests {
    use super::super::swiglu_grad::swiglu_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn forward_and_gradients_match_f64() {
        for len in [1, 7, 70, 40_000] {
            let mut gate: Vec<f32> = normals(len, 1).iter().map(|x| x * 6.0).collect();
            gate[0] = -95.0;
            let (up, dy) = (normals(len, 2), normals(len, 3));
            let s = |g: f32| 1.0 / (1.0 + (-f64::from(g)).exp());
            let silu = |g: f32| f64::from(g) * s(g);
            let slope = |g: f32| s(g) + f64::from(g) * s(g) * (1.0 - s(g));
            let want = [
                (0..len).map(|i| silu(gate[i]) * f64::from(up[i])).collect::<Vec<_>>(),
                (0..len).map(|i| f64::from(dy[i]) * f64::from(up[i]) * slope(gate[i])).collect(),
                (0..len).map(|i| f64::from(dy[i]) * silu(gate[i])).collect(),
            ];
            every_level(
                |pool| {
                    let mut out = [(); 3].map(|()| vec![f32::NAN; len]);
                    let [y, dgate, dup] = &mut out;
                    swiglu(pool, &gate, &up, y);
                    swiglu_grad(pool, &dy, &gate, &up, dgate, dup);
                    out.to_vec()
                },
                |level, got| {
                    for (got, want) in got.iter().zip(&want) {
                        let scale: Vec<f64> = want.iter().map(|w| w.abs() + 0.05).collect();
                        assert_near(level, got, want, &scale, 3e-6);
                    }
                },
            );
        }
    }

    #[test]
    fn a_nan_stays_a_nan_and_the_tails_saturate() {
        for pool in crate::testing::pools(&[1]) {
            let mut y = [0.0; 4];
            swiglu(&pool, &[f32::NAN, 1e30, -1e30, 0.0][..], &[1.0; 4][..], &mut y[..]);
            assert!(y[0].is_nan());
            assert_eq!(y[1], 1e30);
            assert!(y[2].abs() < 1e-6 && y[3] == 0.0);
        }
    }
}
