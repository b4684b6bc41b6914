//! exp, sigmoid, tanh and the normal distribution function on vectors. Invariant: a lane's result depends on that lane alone, so tails need no scalar twin.

// SAFETY of every block here: the contract of `Simd`, that the machine runs the level and pointers are valid for the lanes
// named, which `kernels.rs` states for whole kernels.
#![allow(clippy::undocumented_unsafe_blocks)]

use crate::simd::Simd;

/// Lanes of the widest level.
const MOST_LANES: usize = 16;

/// Below this exp is flushed to 0 (its true value is under 2.5e-38).
const EXP_LOWEST: f32 = -86.6;
/// ln 2 in two parts; the first has trailing zeros, so that n times it is exact for |n| < 2^9.
const LN2_HIGH: f32 = 0.693_359_375;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Coefficients of r^6 to r^2 in 1 + r + ..., minimax in relative error on [-ln 2 / 2, ln 2 / 2] (2e-8 once rounded).
const POLYNOMIAL: [f32; 5] = [0.001_384_498, 0.008_374_289, 0.041_667_98, 0.166_664_3, 0.499_999_94];

/// `e^x` within 2 ulp for x in [-86.6, 88.7], 0 below, anything above: every caller's x is bounded. NaN stays NaN, exp(0)
/// is exactly 1.
///
/// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by a polynomial, times 2^n.
#[inline(always)]
pub(crate) unsafe fn exp<S: Simd>(x: S::V) -> S::V {
    unsafe {
        // The second operand wins when one is NaN, hence the order.
        let clamped = S::max(S::splat(EXP_LOWEST), x);
        let n = S::round(S::mul(clamped, S::splat(std::f32::consts::LOG2_E)));
        let r = S::fma(n, S::splat(-LN2_LOW), S::fma(n, S::splat(-LN2_HIGH), clamped));
        let mut p = S::splat(POLYNOMIAL[0]);
        for coefficient in [POLYNOMIAL[1], POLYNOMIAL[2], POLYNOMIAL[3], POLYNOMIAL[4], 1.0, 1.0] {
            p = S::fma(p, r, S::splat(coefficient));
        }
        // Written so that NaN takes the last branch and passes through.
        S::select_ge(S::splat(EXP_LOWEST), x, S::splat(0.0), S::scale_exp2(p, n))
    }
}

/// `1 / (1 + e^-x)` and `1 - ` that, each to a few ulp of its own size (no cancellation).
#[inline(always)]
pub(crate) unsafe fn sigmoid<S: Simd>(x: S::V) -> (S::V, S::V) {
    unsafe {
        // Past 86 either side is 0 or 1 to f32; the clamp keeps e finite. NaN passes through min and max.
        let clamped = S::max(S::splat(-86.0), S::min(S::splat(86.0), x));
        let e = exp::<S>(S::sub(S::splat(0.0), clamped));
        let inverse = S::div(S::splat(1.0), S::add(S::splat(1.0), e));
        (inverse, S::mul(e, inverse))
    }
}

/// Coefficients of x^11 to x^3 in tanh x = x + ..., minimax on |x| < 0.625. Moshier, *Cephes*, `tanhf`.
const TANH: [f32; 5] = [-5.704_988_7e-3, 2.063_908_8e-2, -5.373_971_6e-2, 1.333_144_2e-1, -3.333_328_2e-1];

/// `tanh x` to a few ulp: by a polynomial near 0, by exp elsewhere. NaN stays NaN.
#[inline(always)]
pub(crate) unsafe fn tanh<S: Simd>(x: S::V) -> S::V {
    unsafe {
        let size = S::max(S::sub(S::splat(0.0), x), x);
        let square = S::mul(x, x);
        let mut p = S::splat(TANH[0]);
        for &coefficient in &TANH[1..] {
            p = S::fma(p, square, S::splat(coefficient));
        }
        let near = S::fma(S::mul(p, square), x, x);
        // Past 9 the result is 1 to f32; the bound keeps exp finite.
        let e = exp::<S>(S::mul(S::splat(2.0), S::min(S::splat(20.0), size)));
        let far = S::sub(S::splat(1.0), S::div(S::splat(2.0), S::add(e, S::splat(1.0))));
        let far = S::select_ge(x, S::splat(0.0), far, S::sub(S::splat(0.0), far));
        // Written so that NaN takes the branch that keeps it.
        S::select_ge(size, S::splat(0.625), far, near)
    }
}

/// `cap * tanh(x / cap)`.
#[inline(always)]
pub(crate) unsafe fn capped<S: Simd>(x: S::V, cap: f32) -> S::V {
    unsafe { S::mul(S::splat(cap), tanh::<S>(S::div(x, S::splat(cap)))) }
}

/// The derivative of [`capped`] where its value is `y`: `1 - (y / cap)^2`.
#[inline(always)]
pub(crate) unsafe fn capped_slope<S: Simd>(y: S::V, cap: f32) -> S::V {
    unsafe {
        let t = S::div(y, S::splat(cap));
        S::fma(S::sub(S::splat(0.0), t), t, S::splat(1.0))
    }
}

/// Coefficients of t^9 to t^0 in the exponent of erfc, Chebyshev in relative error (1.2e-7). Press et al., *Numerical
/// recipes*, 2nd edition, section 6.2.
const ERFC: [f32; 10] = [
    0.170_872_77,
    -0.822_152_2,
    1.488_515_9,
    -1.135_203_9,
    0.278_868_08,
    -0.186_288_06,
    0.096_784_18,
    0.374_091_96,
    1.000_023_7,
    -1.265_512_2,
];

/// `0.5 erfc(-x / sqrt 2)`, the distribution function of the standard normal. With z = |x| / sqrt 2 and t = 1 / (1 + z / 2),
/// erfc z = t exp(-z^2 + p(t)), so the lower tail has no cancellation; the upper side is 1 - that. NaN stays NaN.
#[inline(always)]
pub(crate) unsafe fn normal<S: Simd>(x: S::V) -> S::V {
    const HALF_OF_ROOT: f32 = std::f32::consts::FRAC_1_SQRT_2 / 2.0;
    unsafe {
        let size = S::max(S::sub(S::splat(0.0), x), x);
        let t = S::div(S::splat(1.0), S::fma(size, S::splat(HALF_OF_ROOT), S::splat(1.0)));
        let mut p = S::splat(ERFC[0]);
        for &coefficient in &ERFC[1..] {
            p = S::fma(p, t, S::splat(coefficient));
        }
        let exponent = S::fma(S::mul(x, S::splat(-0.5)), x, p);
        let lower = S::mul(S::mul(t, S::splat(0.5)), exp::<S>(exponent));
        S::select_ge(x, S::splat(0.0), S::sub(S::splat(1.0), lower), lower)
    }
}

/// A function of each lane by itself, where there is no vector form of it.
#[inline(always)]
pub(crate) unsafe fn lane_by_lane<S: Simd>(x: S::V, f: impl Fn(f32) -> f32) -> S::V {
    let mut lanes = [0.0; MOST_LANES];
    unsafe {
        S::store(lanes.as_mut_ptr(), x);
        for lane in &mut lanes[..S::LANES] {
            *lane = f(*lane);
        }
        S::load(lanes.as_ptr())
    }
}

/// A function of two vectors, lane by lane.
#[inline(always)]
pub(crate) unsafe fn lanes_together<S: Simd>(a: S::V, b: S::V, f: impl Fn(f32, f32) -> f32) -> S::V {
    let (mut left, mut right) = ([0.0; MOST_LANES], [0.0; MOST_LANES]);
    unsafe {
        S::store(left.as_mut_ptr(), a);
        S::store(right.as_mut_ptr(), b);
        for (a, b) in left.iter_mut().zip(right).take(S::LANES) {
            *a = f(*a, b);
        }
        S::load(left.as_ptr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pool::Scratch;
    use crate::simd::{Kernel, launch};
    use crate::testing::pools;

    struct Exp<'a>(&'a [f32], crate::shared::Out<'a, f32>);
    impl Kernel for Exp<'_> {
        #[inline(always)]
        unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
            use crate::element::Lanes;
            // One element per task, in lane 0: its value must be the same as in any other place.
            unsafe {
                let x = f32::load::<S>(self.0.as_ptr().add(task), 1);
                f32::store::<S>(self.1.at(task), exp::<S>(x), 1);
            }
        }
    }

    struct Tanh<'a>(&'a [f32], crate::shared::Out<'a, f32>);
    impl Kernel for Tanh<'_> {
        #[inline(always)]
        unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
            use crate::element::Lanes;
            unsafe {
                let x = f32::load::<S>(self.0.as_ptr().add(task), 1);
                f32::store::<S>(self.1.at(task), tanh::<S>(x), 1);
            }
        }
    }

    #[test]
    fn tanh_is_within_a_few_ulp_everywhere() {
        let mut xs: Vec<f32> = (0..20_000).map(|i| (i as f32 - 10_000.0) * 1e-3).collect();
        xs.extend((0..2_000).map(|i| (i as f32 - 1_000.0) * 1e-6));
        xs.extend([1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 0.625, -0.625, 1e-20]);
        for pool in pools(&[1]) {
            let mut ys = vec![0.0; xs.len()];
            launch(&pool, xs.len(), &Tanh(&xs, crate::shared::Out::new(&mut ys)));
            for (&x, &y) in xs.iter().zip(&ys) {
                let want = f64::from(x).tanh();
                if x.is_nan() {
                    assert!(y.is_nan());
                } else {
                    let ulps = (f64::from(y) - want).abs() / (want.abs() * f64::from(f32::EPSILON)).max(1e-40);
                    assert!(ulps <= 4.0, "{}: tanh({x}) = {y}, want {want}: {ulps} ulp", pool.level());
                }
            }
        }
    }

    #[test]
    fn exp_is_within_two_ulp_and_exact_at_the_ends() {
        let mut xs: Vec<f32> = (0..20_000).map(|i| -86.5 + i as f32 * (175.2 / 20_000.0)).collect();
        xs.extend([0.0, -0.0, f32::NEG_INFINITY, f32::NAN, -200.0]);
        for pool in pools(&[1]) {
            let mut ys = vec![0.0; xs.len()];
            launch(&pool, xs.len(), &Exp(&xs, crate::shared::Out::new(&mut ys)));
            for (&x, &y) in xs.iter().zip(&ys) {
                let want = f64::from(x).exp();
                if x.is_nan() {
                    assert!(y.is_nan());
                } else if x < -86.6 {
                    assert_eq!(y, 0.0);
                } else {
                    let limit = if pool.level() == crate::Level::Portable { 4.0 } else { 2.0 };
                    let ulps = (f64::from(y) - want).abs() / (want * f64::from(f32::EPSILON));
                    assert!(ulps <= limit, "{}: exp({x}) = {y}, want {want}: {ulps} ulp", pool.level());
                }
            }
            assert_eq!(ys[20_000], 1.0);
        }
    }
}
