//! Stochastic gradient descent with and without momentum, in PyTorch's order of operations.
//!
//! Everything is f32 and in place. Bound by memory: two arrays read and written, three with momentum.

use super::pointwise::{Pointwise, for_each};
use crate::element::Lanes;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

/// The scalars of one update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sgd {
    /// Learning rate of this step.
    pub lr: f32,
    /// How much of the last direction is kept.
    pub momentum: f32,
    /// Whether the gradient is looked at after the momentum's step.
    pub nesterov: bool,
    /// Times the parameter, added to the gradient.
    pub weight_decay: f32,
    /// Factor of the gradient, for clipping.
    pub grad_scale: f32,
}

struct Update<'a> {
    by: Sgd,
    p: Out<'a, f32>,
    g: Out<'a, f32>,
    m: Option<Out<'a, f32>>,
}

impl Pointwise for Update<'_> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        let Update { by, p: at_p, g: at_g, m: at_m } = self;
        unsafe {
            let load = f32::load::<S>;
            let p = load(at_p.at(i), lanes);
            let g = S::mul(load(at_g.at(i), lanes), S::splat(by.grad_scale));
            let g = S::fma(S::splat(by.weight_decay), p, g);
            let direction = match at_m {
                None => g,
                Some(at_m) => {
                    let m = S::add(S::mul(load(at_m.at(i), lanes), S::splat(by.momentum)), g);
                    f32::store::<S>(at_m.at(i), m, lanes);
                    if by.nesterov { S::fma(S::splat(by.momentum), m, g) } else { m }
                }
            };
            f32::store::<S>(at_p.at(i), S::sub(p, S::mul(S::splat(by.lr), direction)), lanes);
            f32::store::<S>(at_g.at(i), S::splat(0.0), lanes);
        }
    }
}

/// Updates `p` and, where there is one, the buffer of momentum in place, then sets the gradient to zero.
///
/// `g = grad_scale g + wd p; m = mu m + g; p -= lr m`, or `p -= lr (g + mu m)` by Nesterov; without a buffer `p -= lr g`.
pub fn sgd(pool: &ThreadPool, by: Sgd, p: &mut [f32], g: &mut [f32], m: Option<&mut [f32]>) {
    let len = p.len();
    assert_eq!(g.len(), len, "sgd: parameter and gradient differ in size");
    assert!(m.as_ref().is_none_or(|m| m.len() == len), "sgd: parameter and momentum differ in size");
    for_each(pool, len, &Update { by, p: Out::new(p), g: Out::new(g), m: m.map(Out::new) });
}
