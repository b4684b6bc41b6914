//! Gradient of softmax and of its logarithm along rows. Bound by memory.
//!
//! Numbers: a row's sum as in `softmax.rs`.

use super::curves::exp_anywhere;
use super::pointwise::rows_per_task;
use super::softmax::row_sum;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, for_lanes, launch};

struct Rows<'a, T> {
    width: usize,
    log: bool,
    dy: View<'a, T>,
    y: View<'a, T>,
    dx: Out<'a, T>,
}

impl<T: Element> Kernel for Rows<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let (each, rows) = (rows_per_task(self.width), self.y.len() / self.width);
        for row in task * each..((task + 1) * each).min(rows) {
            let start = row * self.width;
            unsafe {
                let dy = |i: usize, lanes: usize| T::load::<S>(self.dy.at(start + i), lanes);
                let y = |i: usize, lanes: usize| T::load::<S>(self.y.at(start + i), lanes);
                let term = |i, lanes| if self.log { dy(i, lanes) } else { S::mul(dy(i, lanes), y(i, lanes)) };
                let sum = S::splat(row_sum::<S>(self.width, term) as f32);
                for_lanes!(S, self.width, |i, lanes| {
                    let (dy, y) = (dy(i, lanes), y(i, lanes));
                    let dx = if self.log {
                        S::sub(dy, S::mul(exp_anywhere::<S>(y), sum))
                    } else {
                        S::mul(y, S::sub(dy, sum))
                    };
                    T::store::<S>(self.dx.at(start + i), dx, lanes);
                });
            }
        }
    }
}

/// `dx` of rows of `width` elements, from dy and y; `dx` may be either, in place.
pub fn softmax_grad<'a, T: Element>(
    pool: &ThreadPool,
    width: usize,
    log: bool,
    dy: impl Into<View<'a, T>>,
    y: impl Into<View<'a, T>>,
    dx: impl Into<Out<'a, T>>,
) {
    let (dy, y, dx) = (dy.into(), y.into(), dx.into());
    assert_eq!([dy.len(), dx.len()], [y.len(); 2], "softmax_grad: operands differ in size");
    assert!(y.len().is_multiple_of(width), "softmax_grad: y is not rows of {width}");
    launch(pool, (y.len() / width).div_ceil(rows_per_task(width)), &Rows { width, log, dy, y, dx });
}
