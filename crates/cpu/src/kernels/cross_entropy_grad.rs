//! Gradient of cross entropy's logits. A row is the work of one task; bound by memory and one exponential per logit.
//! Look at `cross_entropy.rs` for shapes.

use super::cross_entropy::Targets;
use super::pointwise::rows_per_task;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::exp;

struct Backward<'a, T> {
    logits: View<'a, T>,
    size: usize,
    targets: Targets<'a>,
    /// Sum of the classes' weights.
    total: f32,
    lse: &'a [f32],
    dloss: &'a [f32],
    dz: Out<'a, T>,
}

/// `dz = dloss (own (p - onehot) + smoothing / C (W p - w))` with `p = exp(z - lse)`; `dz` may be `logits`, in place.
pub fn cross_entropy_grad<'a, T: Element>(
    pool: &ThreadPool,
    logits: impl Into<View<'a, T>>,
    targets: Targets<'_>,
    lse: &[f32],
    dloss: &[f32],
    dz: impl Into<Out<'a, T>>,
) {
    let (logits, dz) = (logits.into(), dz.into());
    let rows = lse.len();
    let size = logits.len() / rows.max(1);
    assert_eq!([logits.len(), dz.len()], [rows * size; 2], "cross_entropy_grad: logits are not [{rows}, {size}]");
    assert_eq!(dloss.len(), rows, "cross_entropy_grad: dloss is not [{rows}]");
    targets.check("cross_entropy_grad", rows, size);
    let total = targets.weights.map_or(size as f64, |weights| weights.iter().map(|&w| f64::from(w)).sum()) as f32;
    let kernel = Backward { logits, size, targets, total, lse, dloss, dz };
    launch(pool, rows.div_ceil(rows_per_task(size)), &kernel);
}

impl<T: Element> Kernel for Backward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let rows = rows_per_task(self.size);
        for n in task * rows..((task + 1) * rows).min(self.lse.len()) {
            match self.targets.class(n) {
                Some(class) => unsafe { self.row::<S>(n, class) },
                None => (0..self.size).for_each(|c| unsafe { *self.dz.at(n * self.size + c) = T::from_f32(0.0) }),
            }
        }
    }
}

impl<T: Element> Backward<'_, T> {
    #[inline(always)]
    unsafe fn row<S: Simd>(&self, n: usize, class: usize) {
        let Targets { smoothing, weights, .. } = self.targets;
        let (first, lse, dloss) = (n * self.size, self.lse[n], self.dloss[n]);
        let (own, share) = ((1.0 - smoothing) * self.targets.weight(class), smoothing / self.size as f32);
        unsafe {
            let hit = (*self.logits.at(first + class)).to_f32();
            let factor = own + share * self.total;
            for_lanes!(S, self.size, |c, lanes| {
                let z = T::load::<S>(self.logits.at(first + c), lanes);
                let mut slope = S::mul(exp::<S>(S::sub(z, S::splat(lse))), S::splat(factor));
                if smoothing > 0.0 {
                    let weight = match weights {
                        Some(weights) => f32::load::<S>(weights.as_ptr().add(c), lanes),
                        None => S::splat(1.0),
                    };
                    slope = S::sub(slope, S::mul(weight, S::splat(share)));
                }
                T::store::<S>(self.dz.at(first + c), S::mul(slope, S::splat(dloss)), lanes);
            });
            let slope = (hit - lse).exp() * factor - share * self.targets.weight(class) - own;
            *self.dz.at(first + class) = T::from_f32(slope * dloss);
        }
    }
}
