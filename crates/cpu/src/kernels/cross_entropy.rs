//! Cross entropy of rows of logits, as a sum behind each row's maximum. Bound by memory and one exponential per logit.
//!
//! Shapes: logits [N, C], targets, loss, lse [N], weights [C]. A row is the work of one task, in f32. Look at
//! `remat_ir::ops::CrossEntropy` for the formula.

use super::padded::{keep, load_padded};
use super::pointwise::rows_per_task;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::exp;

/// What forward and gradient know of the targets.
#[derive(Debug, Clone, Copy)]
pub struct Targets<'a> {
    /// `[N]`: classes, or `ignored`.
    pub classes: &'a [i32],
    /// The target of a row that takes no part.
    pub ignored: i32,
    /// How much of each target is spread over all classes.
    pub smoothing: f32,
    /// `[C]`; without any, all are 1.
    pub weights: Option<&'a [f32]>,
}

impl Targets<'_> {
    /// The class of row `n`, if it takes part.
    pub(super) fn class(&self, n: usize) -> Option<usize> {
        let target = self.classes[n];
        (target != self.ignored).then_some(target as usize)
    }

    pub(super) fn weight(&self, class: usize) -> f32 {
        self.weights.map_or(1.0, |weights| weights[class])
    }

    pub(super) fn check(&self, name: &str, rows: usize, classes: usize) {
        assert_eq!(self.classes.len(), rows, "{name}: targets are not [{rows}]");
        assert!(self.weights.is_none_or(|weights| weights.len() == classes), "{name}: weights are not [{classes}]");
        let known = |&target: &i32| target == self.ignored || usize::try_from(target).is_ok_and(|t| t < classes);
        assert!(self.classes.iter().all(known), "{name}: a target lies outside 0..{classes}");
    }
}

struct Forward<'a, T> {
    logits: &'a [T],
    size: usize,
    targets: Targets<'a>,
    loss: Out<'a, f32>,
    lse: Out<'a, f32>,
}

/// The loss of each row, and the logarithm of its softmax's denominator.
pub fn cross_entropy<T: Element>(
    pool: &ThreadPool,
    logits: &[T],
    targets: Targets<'_>,
    loss: &mut [f32],
    lse: &mut [f32],
) {
    let rows = loss.len();
    let size = logits.len() / rows.max(1);
    assert_eq!([logits.len(), lse.len()], [rows * size, rows], "cross_entropy: logits are not [{rows}, {size}]");
    targets.check("cross_entropy", rows, size);
    let kernel = Forward { logits, size, targets, loss: Out::new(loss), lse: Out::new(lse) };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let rows = rows_per_task(self.size);
        for n in task * rows..((task + 1) * rows).min(self.targets.classes.len()) {
            unsafe {
                let z = self.logits.as_ptr().add(n * self.size);
                let lse = logsumexp::<S, T>(z, self.size);
                *self.lse.at(n) = lse;
                *self.loss.at(n) = self.targets.class(n).map_or(0.0, |class| self.loss_of::<S>(z, lse, class));
            }
        }
    }
}

impl<T: Element> Forward<'_, T> {
    #[inline(always)]
    unsafe fn loss_of<S: Simd>(&self, z: *const T, lse: f32, class: usize) -> f32 {
        let Targets { smoothing, weights, .. } = self.targets;
        let own = self.targets.weight(class) * (lse - unsafe { *z.add(class) }.to_f32());
        if smoothing == 0.0 {
            return own;
        }
        let mut sums = unsafe { S::splat(0.0) };
        for_lanes!(S, self.size, |c, lanes| {
            unsafe {
                let mut below = S::sub(S::splat(lse), load_padded::<S, T>(z.add(c), lanes, lse));
                if let Some(weights) = weights {
                    below = S::mul(below, f32::load::<S>(weights.as_ptr().add(c), lanes));
                }
                sums = S::add(sums, keep::<S>(below, lanes));
            }
        });
        (1.0 - smoothing) * own + smoothing / self.size as f32 * unsafe { S::sum(sums) }
    }
}

/// log of the sum of exp over `size` elements.
#[inline(always)]
unsafe fn logsumexp<S: Simd, T: Element>(z: *const T, size: usize) -> f32 {
    unsafe {
        let mut tops = S::splat(f32::NEG_INFINITY);
        for_lanes!(S, size, |c, lanes| {
            // What is not a number stays one: the second operand wins.
            tops = S::max(tops, load_padded::<S, T>(z.add(c), lanes, f32::NEG_INFINITY));
        });
        let top = S::fold_max(tops);
        let mut sums = S::splat(0.0);
        for_lanes!(S, size, |c, lanes| {
            let below = S::sub(load_padded::<S, T>(z.add(c), lanes, f32::NEG_INFINITY), S::splat(top));
            sums = S::add(sums, exp::<S>(below));
        });
        top + S::sum(sums).ln()
    }
}
