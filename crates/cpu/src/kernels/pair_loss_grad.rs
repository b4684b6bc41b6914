//! Gradients of the losses of pairs. Elementwise; bound by memory. Look at `pair_loss.rs` for the functions.

use super::pair_loss::Pairs;
use super::pointwise::{Pointwise, for_each};
use crate::element::{Element, Lanes};
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;
use remat_ir::ops::PairLossGrad;

struct Backward<'a, T> {
    pairs: Pairs<'a>,
    of_target: bool,
    x: View<'a, T>,
    y: View<'a, T>,
    dloss: &'a [f32],
    dx: Out<'a, T>,
}

impl<T: Element> Pointwise for Backward<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, i: usize, lanes: usize) {
        unsafe {
            let (x, y) = (T::load::<S>(self.x.at(i), lanes), T::load::<S>(self.y.at(i), lanes));
            let slope = match self.of_target {
                false => self.pairs.slope::<S>(x, y, i),
                true => self.pairs.slope_of_target::<S>(x, y, i),
            };
            let dloss = f32::load::<S>(self.dloss.as_ptr().add(i), lanes);
            T::store::<S>(self.dx.at(i), S::mul(slope, dloss), lanes);
        }
    }
}

/// `dx = dloss * slope(x, y)`, by x or by y; `dx` may be `x` or `y`, in place.
pub fn pair_loss_grad<'a, T: Element>(
    pool: &ThreadPool,
    op: &PairLossGrad,
    pos_weight: Option<&[f32]>,
    [x, y]: [View<'a, T>; 2],
    dloss: &[f32],
    dx: impl Into<Out<'a, T>>,
) {
    let dx = dx.into();
    assert_eq!([x.len(), y.len(), dloss.len()], [dx.len(); 3], "pair_loss_grad: operands differ in size");
    let pairs = Pairs { function: op.function, pos_weight };
    pairs.check("pair_loss_grad", x.len());
    for_each(pool, x.len(), &Backward { pairs, of_target: op.of_target, x, y, dloss, dx });
}
