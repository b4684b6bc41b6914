//! A gradient brought into ±max, element by element. Bound by memory.

use super::pointwise::{Pointwise, for_each};
use crate::element::Lanes;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

struct Clip<'a> {
    max: f32,
    scale: f32,
    g: Out<'a, f32>,
}

impl Pointwise for Clip<'_> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let g = S::mul(f32::load::<S>(self.g.at(i), lanes), S::splat(self.scale));
            let (least, most) = (S::splat(-self.max), S::splat(self.max));
            // Which way round, so that NaN fails both comparisons and stays.
            let not_above = S::select_ge(g, most, most, g);
            let clipped = S::select_ge(least, not_above, least, not_above);
            f32::store::<S>(self.g.at(i), clipped, lanes);
        }
    }
}

/// `g = min(max(scale g, -max), max)` in place, as `torch.nn.utils.clip_grad_value_`; NaN stays NaN.
pub fn clip_value(pool: &ThreadPool, max: f32, scale: f32, g: &mut [f32]) {
    for_each(pool, g.len(), &Clip { max, scale, g: Out::new(g) });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::every_level;

    #[test]
    fn what_is_too_large_is_brought_in_and_nan_stays() {
        every_level(
            |pool| {
                let mut g = vec![0.25, -0.25, 7.0, -7.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
                clip_value(pool, 0.5, 1.0, &mut g);
                vec![g]
            },
            |level, got| {
                assert_eq!(got[0][..6], [0.25, -0.25, 0.5, -0.5, 0.5, -0.5], "{level}");
                assert!(got[0][6].is_nan(), "{level}");
            },
        );
    }
}
