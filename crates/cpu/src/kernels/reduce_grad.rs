//! Gradient of an extreme along some axes: dy where x is y, shared by as many as are. Bound by memory: x is read twice.

use super::pointwise::CHUNK;
use super::reduce::{Cut, STRIP};
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, launch};

struct Shares<'a, T> {
    dy: &'a [T],
    x: &'a [T],
    y: &'a [T],
    cut: Cut,
    /// Strips per task.
    each: usize,
    dx: Out<'a, T>,
}

impl<T: Element> Shares<'_, T> {
    /// Calls `body` with the result's number in its strip and the place of each term.
    #[inline(always)]
    fn each_term(&self, start: usize, count: usize, mut body: impl FnMut(usize, usize)) {
        let (len, step) = (self.cut.reduced.inner(), self.cut.reduced.step()[0]);
        let mut at = self.cut.reduced.at(0);
        for _ in 0..self.cut.reduced.runs() {
            for inner in 0..len {
                for index in 0..count {
                    body(index, start + at.start[0] + inner * step + index);
                }
            }
            self.cut.reduced.advance(&mut at);
        }
    }
}

impl<T: Element> Kernel for Shares<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let first = task * self.each;
        for strip in first..(first + self.each).min(self.cut.all_strips()) {
            let (result, count, start) = self.cut.strip_at(strip);
            let (dy, y) = (&self.dy[result..], &self.y[result..]);
            let is_it = |index: usize, place: usize| self.x[place].to_f32() == y[index].to_f32();
            let mut equal = [0.0f32; STRIP];
            self.each_term(start, count, |index, place| equal[index] += f32::from(u8::from(is_it(index, place))));
            self.each_term(start, count, |index, place| {
                // NaN where nothing is: y is none of x.
                let share = f32::from(u8::from(is_it(index, place))) * dy[index].to_f32() / equal[index];
                unsafe { *self.dx.at(place) = T::from_f32(share) };
            });
        }
    }
}

/// `dx = dy * (x == y) / (number of those)`, for x of this shape reduced along axes that are counted from the last, -1.
pub fn reduce_grad<T: Element>(
    pool: &ThreadPool,
    dy: &[T],
    x: &[T],
    y: &[T],
    shape: &[usize],
    axes: &[i64],
    dx: &mut [T],
) {
    let cut = Cut::new(shape, axes);
    let (results, elements) = (cut.results(), cut.results() * cut.terms());
    assert_eq!([x.len(), dx.len()], [elements; 2], "reduce_grad: x or dx is not of {shape:?}");
    assert_eq!([dy.len(), y.len()], [results; 2], "reduce_grad: dy or y is not of {shape:?} reduced");
    let each = (CHUNK / (cut.terms() * cut.strip())).max(1);
    launch(pool, cut.all_strips().div_ceil(each), &Shares { dy, x, y, cut, each, dx: dx.into() });
}
