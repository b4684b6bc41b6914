//! The weight of each target's class, 0 where the target is ignored. Bound by memory.

use super::cross_entropy::Targets;
use super::pointwise::CHUNK;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};

struct Weights<'a> {
    targets: Targets<'a>,
    to: Out<'a, f32>,
}

impl Kernel for Weights<'_> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        for n in task * CHUNK..((task + 1) * CHUNK).min(self.to.len()) {
            let weight = self.targets.class(n).map_or(0.0, |class| self.targets.weight(class));
            unsafe { *self.to.at(n) = weight };
        }
    }
}

/// `to[n] = weights[classes[n]]`, or 1 without weights, or 0 where ignored.
pub fn target_weight(pool: &ThreadPool, targets: Targets<'_>, to: &mut [f32]) {
    let classes = targets.weights.map_or(usize::MAX, <[f32]>::len);
    assert_eq!(targets.classes.len(), to.len(), "target_weight: operands differ in size");
    let known = |&target: &i32| target == targets.ignored || usize::try_from(target).is_ok_and(|t| t < classes);
    assert!(targets.weights.is_none() || targets.classes.iter().all(known), "target_weight: a target has no weight");
    launch(pool, to.len().div_ceil(CHUNK), &Weights { targets, to: Out::new(to) });
}
