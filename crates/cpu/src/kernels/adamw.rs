//! AdamW with decoupled weight decay, in PyTorch's order of operations.
//!
//! Loshchilov, Hutter: *Decoupled weight decay regularization*, 2019. Everything is f32 and in place; the step's
//! scalars are computed once in f64. Bound by memory: four arrays read and written.

use super::pointwise::{Pointwise, for_each};
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

/// The scalars of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamW {
    /// Learning rate of this step.
    pub lr: f64,
    /// Decay rates of the two moments.
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Number of this update, from 1 on.
    pub step: u64,
    /// Factor of the gradient, for clipping.
    pub grad_scale: f32,
}

struct Update<'a> {
    decay: f32,
    one_minus_beta1: f32,
    beta2: f32,
    one_minus_beta2: f32,
    inverse_root_correction: f32,
    eps: f32,
    step_size: f32,
    grad_scale: f32,
    p: Out<'a, f32>,
    g: Out<'a, f32>,
    m: Out<'a, f32>,
    v: Out<'a, f32>,
}

impl Pointwise for Update<'_> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        use crate::element::Lanes;
        unsafe {
            let load = f32::load::<S>;
            let g = S::mul(load(self.g.at(i), lanes), S::splat(self.grad_scale));
            let m = load(self.m.at(i), lanes);
            let m = S::fma(S::splat(self.one_minus_beta1), S::sub(g, m), m);
            let v = S::mul(load(self.v.at(i), lanes), S::splat(self.beta2));
            let v = S::fma(S::mul(g, g), S::splat(self.one_minus_beta2), v);
            let root = S::fma(S::sqrt(v), S::splat(self.inverse_root_correction), S::splat(self.eps));
            let p = S::mul(load(self.p.at(i), lanes), S::splat(self.decay));
            let p = S::sub(p, S::div(S::mul(S::splat(self.step_size), m), root));
            f32::store::<S>(self.p.at(i), p, lanes);
            f32::store::<S>(self.g.at(i), S::splat(0.0), lanes);
            f32::store::<S>(self.m.at(i), m, lanes);
            f32::store::<S>(self.v.at(i), v, lanes);
        }
    }
}

/// Updates `p` and both moments in place, then sets the gradient to zero.
///
/// `g *= grad_scale; p *= 1 - lr wd; m += (1 - b1)(g - m); v = b2 v + (1 - b2) g^2;
/// p -= lr / (1 - b1^t) * m / (sqrt(v) / sqrt(1 - b2^t) + eps); g = 0`.
pub fn adamw(pool: &ThreadPool, update: AdamW, p: &mut [f32], g: &mut [f32], m: &mut [f32], v: &mut [f32]) {
    let len = p.len();
    assert_eq!([g.len(), m.len(), v.len()], [len; 3], "adamw: parameter, gradient and moments differ in size");
    assert!(update.step > 0, "adamw: the first step is 1");
    let [beta1, beta2] = update.betas;
    let t = i32::try_from(update.step).unwrap_or(i32::MAX);
    let kernel = Update {
        decay: (1.0 - update.lr * update.weight_decay) as f32,
        one_minus_beta1: (1.0 - beta1) as f32,
        beta2: beta2 as f32,
        one_minus_beta2: (1.0 - beta2) as f32,
        inverse_root_correction: (1.0 / (1.0 - beta2.powi(t)).sqrt()) as f32,
        eps: update.eps as f32,
        step_size: (update.lr / (1.0 - beta1.powi(t))) as f32,
        grad_scale: update.grad_scale,
        p: Out::new(p),
        g: Out::new(g),
        m: Out::new(m),
        v: Out::new(v),
    };
    for_each(pool, len, &kernel);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals};

    #[test]
    fn three_steps_match_f64_and_clear_the_gradient() {
        for len in [1, 13, 70, 20_000] {
            let start = normals(len, 1);
            let grads: Vec<Vec<f32>> = (0..3).map(|t| normals(len, 10 + t)).collect();
            let at =
                |step| AdamW { lr: 1e-2, betas: [0.9, 0.999], eps: 1e-8, weight_decay: 0.1, step, grad_scale: 0.5 };
            let mut want: [Vec<f64>; 3] =
                [start.iter().map(|&x| f64::from(x)).collect(), vec![0.0; len], vec![0.0; len]];
            for (t, grad) in grads.iter().enumerate() {
                let u = at(t as u64 + 1);
                let [p, m, v] = &mut want;
                for i in 0..len {
                    let g = 0.5 * f64::from(grad[i]);
                    p[i] *= 1.0 - u.lr * u.weight_decay;
                    m[i] = 0.9 * m[i] + 0.1 * g;
                    v[i] = 0.999 * v[i] + 0.001 * g * g;
                    let (mhat, vhat) =
                        (m[i] / (1.0 - 0.9f64.powi(t as i32 + 1)), v[i] / (1.0 - 0.999f64.powi(t as i32 + 1)));
                    p[i] -= u.lr * mhat / (vhat.sqrt() + u.eps);
                }
            }
            every_level(
                |pool| {
                    let mut out = [start.clone(), vec![0.0; len], vec![0.0; len]];
                    for (t, grad) in grads.iter().enumerate() {
                        let [p, m, v] = &mut out;
                        let mut g = grad.clone();
                        adamw(pool, at(t as u64 + 1), p, &mut g, m, v);
                        assert!(g.iter().all(|g| g.to_bits() == 0));
                    }
                    out.to_vec()
                },
                |level, got| {
                    for (got, want) in got.iter().zip(&want) {
                        let scale: Vec<f64> = want.iter().map(|w| w.abs() + 0.1).collect();
                        assert_near(level, got, want, &scale, 1e-6);
                    }
                },
            );
        }
    }
}
