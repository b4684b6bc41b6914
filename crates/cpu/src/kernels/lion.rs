//! Lion, in the order of operations of lion-pytorch.
//!
//! Chen et al.: *Symbolic discovery of optimization algorithms*, 2023. Everything is f32 and in place; the step's scalars are
//! computed once in f64. Bound by memory: three arrays read and written.

use super::pointwise::{Pointwise, for_each};
use crate::element::Lanes;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

/// The scalars of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lion {
    /// Learning rate of this step.
    pub lr: f64,
    /// Shares of the moment in the direction, and in the next moment.
    pub betas: [f64; 2],
    /// Decoupled weight decay, times the learning rate.
    pub weight_decay: f64,
    /// Factor of the gradient, for clipping.
    pub grad_scale: f32,
}

struct Update<'a> {
    decay: f32,
    lr: f32,
    betas: [f32; 2],
    rest: [f32; 2],
    grad_scale: f32,
    p: Out<'a, f32>,
    g: Out<'a, f32>,
    m: Out<'a, f32>,
}

impl Pointwise for Update<'_> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let load = f32::load::<S>;
            let times = |x: S::V, factor: f32| S::mul(x, S::splat(factor));
            let g = times(load(self.g.at(i), lanes), self.grad_scale);
            let m = load(self.m.at(i), lanes);
            let mixed = |by: usize| S::fma(g, S::splat(self.rest[by]), times(m, self.betas[by]));
            let step = times(sign::<S>(mixed(0)), self.lr);
            let p = S::sub(times(load(self.p.at(i), lanes), self.decay), step);
            f32::store::<S>(self.p.at(i), p, lanes);
            f32::store::<S>(self.g.at(i), S::splat(0.0), lanes);
            f32::store::<S>(self.m.at(i), mixed(1), lanes);
        }
    }
}

/// −1, 0 or 1; NaN of NaN.
#[inline(always)]
unsafe fn sign<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let (zero, one) = (S::splat(0.0), S::splat(1.0));
        let above = S::select_ge(zero, x, zero, one);
        let below = S::select_ge(x, zero, zero, one);
        // No comparison holds of NaN, not even with itself.
        let nothing = S::select_ge(x, x, zero, S::splat(f32::NAN));
        S::add(S::sub(above, below), nothing)
    }
}

/// Updates `p` and the moment in place, then sets the gradient to zero.
///
/// `g *= grad_scale; p *= 1 - lr wd; p -= lr sign(b1 m + (1 - b1) g); m = b2 m + (1 - b2) g; g = 0`.
pub fn lion(pool: &ThreadPool, update: Lion, p: &mut [f32], g: &mut [f32], m: &mut [f32]) {
    let len = p.len();
    assert_eq!([g.len(), m.len()], [len; 2], "lion: parameter, gradient and moment differ in size");
    let kernel = Update {
        decay: (1.0 - update.lr * update.weight_decay) as f32,
        lr: update.lr as f32,
        betas: update.betas.map(|beta| beta as f32),
        rest: update.betas.map(|beta| (1.0 - beta) as f32),
        grad_scale: update.grad_scale,
        p: Out::new(p),
        g: Out::new(g),
        m: Out::new(m),
    };
    for_each(pool, len, &kernel);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::every_level;

    #[test]
    fn nothing_moves_where_nothing_is_and_what_is_no_number_stays_none() {
        let update = Lion { lr: 0.5, betas: [0.5, 0.5], weight_decay: 0.0, grad_scale: 1.0 };
        every_level(
            |pool| {
                let (mut p, mut m) = (vec![1.0; 5], vec![0.0; 5]);
                let mut g = vec![0.0, -0.0, 3.0, -1e-30, f32::NAN];
                lion(pool, update, &mut p, &mut g, &mut m);
                assert_eq!(g, [0.0; 5]);
                vec![p, m]
            },
            |level, got| {
                assert_eq!(got[0][..4], [1.0, 1.0, 0.5, 1.5], "{level}");
                assert_eq!(got[1][..3], [0.0, 0.0, 1.5], "{level}");
                assert!(got[0][4].is_nan() && got[1][4].is_nan(), "{level}");
            },
        );
    }
}
