//! Losses of pairs of elements: mean squared error, absolute error, Huber's, binary cross entropy of logits. Elementwise;
//! bound by memory, but for the logarithm of the last.

use super::pointwise::{Pointwise, for_each};
use crate::element::{Element, Lanes};
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;
use crate::vector_math::sigmoid;
use remat_ir::ops::PairFunction;

/// The operands of a loss and of its gradient.
#[derive(Clone, Copy)]
pub(super) struct Pairs<'a> {
    pub function: PairFunction,
    /// `[C]`: the weight of positive answers of element i is that at i % C.
    pub pos_weight: Option<&'a [f32]>,
}

/// |v|.
#[inline(always)]
unsafe fn abs<S: Simd>(v: S::V) -> S::V {
    unsafe { S::max(S::sub(S::splat(0.0), v), v) }
}

/// -1, 0 or 1.
#[inline(always)]
unsafe fn sign<S: Simd>(v: S::V) -> S::V {
    unsafe {
        let zero = S::splat(0.0);
        let not_positive = S::select_ge(v, zero, zero, S::splat(-1.0));
        S::select_ge(zero, v, not_positive, S::splat(1.0))
    }
}

/// log(1 + e^-x) of each lane. It is the logarithm of 1 and something small as a rule, which needs its own function.
#[inline(always)]
unsafe fn softplus_of_negative<S: Simd>(x: S::V) -> S::V {
    let mut lanes = [0.0f32; 16];
    unsafe {
        S::store(lanes.as_mut_ptr(), x);
        for x in lanes.iter_mut().take(S::LANES) {
            *x = (-x.abs()).exp().ln_1p() + (-*x).max(0.0);
        }
        S::load(lanes.as_ptr())
    }
}

impl Pairs<'_> {
    /// The weights of positive answers from element `i` on.
    #[inline(always)]
    unsafe fn positive<S: Simd>(&self, i: usize) -> S::V {
        let mut lanes = [1.0f32; 16];
        if let Some(weights) = self.pos_weight {
            for (lane, to) in lanes.iter_mut().enumerate() {
                *to = weights[(i + lane) % weights.len()];
            }
        }
        unsafe { S::load(lanes.as_ptr()) }
    }

    /// Losses of the pairs from element `i` on.
    #[inline(always)]
    unsafe fn value<S: Simd>(&self, x: S::V, y: S::V, i: usize) -> S::V {
        unsafe {
            let (d, half) = (S::sub(x, y), S::splat(0.5));
            match self.function {
                PairFunction::Mse => S::mul(d, d),
                PairFunction::L1 => abs::<S>(d),
                PairFunction::Huber { delta } => {
                    let (size, delta) = (abs::<S>(d), S::splat(delta));
                    let line = S::mul(delta, S::sub(size, S::mul(half, delta)));
                    S::select_ge(delta, size, S::mul(half, S::mul(d, d)), line)
                }
                PairFunction::SmoothL1 { beta } => {
                    let (size, beta) = (abs::<S>(d), S::splat(beta));
                    let line = S::sub(size, S::mul(half, beta));
                    S::select_ge(size, beta, line, S::div(S::mul(half, S::mul(d, d)), beta))
                }
                PairFunction::BceWithLogits => {
                    let one = S::splat(1.0);
                    let positive = S::fma(S::sub(self.positive::<S>(i), one), y, one);
                    S::fma(S::sub(one, y), x, S::mul(positive, softplus_of_negative::<S>(x)))
                }
            }
        }
    }

    /// Slopes by x.
    #[inline(always)]
    pub(super) unsafe fn slope<S: Simd>(&self, x: S::V, y: S::V, i: usize) -> S::V {
        unsafe {
            let d = S::sub(x, y);
            match self.function {
                PairFunction::Mse => S::add(d, d),
                PairFunction::L1 => sign::<S>(d),
                PairFunction::Huber { delta } => S::max(S::splat(-delta), S::min(S::splat(delta), d)),
                PairFunction::SmoothL1 { beta } => {
                    let beta = S::splat(beta);
                    S::select_ge(abs::<S>(d), beta, sign::<S>(d), S::div(d, beta))
                }
                PairFunction::BceWithLogits => {
                    let positive = S::mul(self.positive::<S>(i), y);
                    let both = S::add(positive, S::sub(S::splat(1.0), y));
                    S::sub(S::mul(both, sigmoid::<S>(x).0), positive)
                }
            }
        }
    }

    /// Slopes by y.
    #[inline(always)]
    pub(super) unsafe fn slope_of_target<S: Simd>(&self, x: S::V, y: S::V, i: usize) -> S::V {
        unsafe {
            if self.function == PairFunction::BceWithLogits {
                let more = S::sub(self.positive::<S>(i), S::splat(1.0));
                return S::sub(S::mul(more, softplus_of_negative::<S>(x)), x);
            }
            S::sub(S::splat(0.0), self.slope::<S>(x, y, i))
        }
    }

    pub(super) fn check(&self, name: &str, len: usize) {
        let fits = |weights: &[f32]| !weights.is_empty() && len.is_multiple_of(weights.len());
        assert!(self.pos_weight.is_none_or(fits), "{name}: {len} elements are not rows of pos_weight");
    }
}

struct Forward<'a, T> {
    pairs: Pairs<'a>,
    x: &'a [T],
    y: &'a [T],
    loss: Out<'a, f32>,
}

impl<T: Element> Pointwise for Forward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let (x, y) = (T::load::<S>(self.x.as_ptr().add(i), lanes), T::load::<S>(self.y.as_ptr().add(i), lanes));
            f32::store::<S>(self.loss.at(i), self.pairs.value::<S>(x, y, i), lanes);
        }
    }
}

/// `loss = function(x, y)`.
pub fn pair_loss<T: Element>(
    pool: &ThreadPool,
    function: PairFunction,
    pos_weight: Option<&[f32]>,
    x: &[T],
    y: &[T],
    loss: &mut [f32],
) {
    assert_eq!([x.len(), y.len()], [loss.len(); 2], "pair_loss: operands differ in size");
    let pairs = Pairs { function, pos_weight };
    pairs.check("pair_loss", x.len());
    for_each(pool, x.len(), &Forward { pairs, x, y, loss: Out::new(loss) });
}
