//! SwiGLU: `y = silu(gate) * up` with `silu(g) = g * sigmoid(g)`, and its gradients. Elementwise; bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;
use crate::vector_math::sigmoid;

struct Forward<'a, T> {
    gate: &'a [T],
    up: &'a [T],
    y: Out<'a, T>,
}

impl<T: Element> Pointwise for Forward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let gate = T::load::<S>(self.gate.as_ptr().add(i), lanes);
            let (s, _) = sigmoid::<S>(gate);
            let y = S::mul(S::mul(gate, s), T::load::<S>(self.up.as_ptr().add(i), lanes));
            T::store::<S>(self.y.at(i), y, lanes);
        }
    }
}

/// `y = silu(gate) * up`.
pub fn swiglu<T: Element>(pool: &ThreadPool, gate: &[T], up: &[T], y: &mut [T]) {
    let len = y.len();
    assert_eq!([gate.len(), up.len()], [len; 2], "swiglu: gate, up and y differ in size");
    for_each(pool, len, &Forward { gate, up, y: Out::new(y) });
}

struct Backward<'a, T> {
    dy: &'a [T],
    gate: &'a [T],
    up: &'a [T],
    dgate: Out<'a, T>,
    dup: Out<'a, T>,
}

impl<T: Element> Pointwise for Backward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let dy = T::load::<S>(self.dy.as_ptr().add(i), lanes);
            let gate = T::load::<S>(self.gate.as_ptr().add(i), lanes);
            let up = T::load::<S>(self.up.as_ptr().add(i), lanes);
            let (s, rest) = sigmoid::<S>(gate);
            let silu = S::mul(gate, s);
            let slope = S::fma(silu, rest, s);
            T::store::<S>(self.dgate.at(i), S::mul(S::mul(dy, up), slope), lanes);
            T::store::<S>(self.dup.at(i), S::mul(dy, silu), lanes);
        }
    }
}

/// `dgate = dy * up * silu'(gate)` with `silu'(g) = s + g s (1 - s)`, and `dup = dy * silu(gate)`.
pub fn swiglu_grad<T: Element>(pool: &ThreadPool, dy: &[T], gate: &[T], up: &[T], dgate: &mut [T], dup: &mut [T]) {
    let len = dy.len();
    assert_eq!([gate.len(), up.len(), dgate.len(), dup.len()], [len; 4], "swiglu_grad: operands differ in size");
    for_each(pool, len, &Backward { dy, gate, up, dgate: Out::new(dgate), dup: Out::new(dup) });
}

#[cfg(test)]
mod tests {
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
            swiglu(&pool, &[f32::NAN, 1e30, -1e30, 0.0], &[1.0; 4], &mut y);
            assert!(y[0].is_nan());
            assert_eq!(y[1], 1e30);
            assert!(y[2].abs() < 1e-6 && y[3] == 0.0);
        }
    }
}
