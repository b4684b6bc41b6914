//! Functions of two numbers, element-wise, with broadcasting: `y = f(a, b)`. Bound by memory, but for powers. Look at
//! `pairs.rs` for the functions and at `strided.rs` for the walk.

use super::pairs::{Pair, WithPair, choose};
use super::strided::{Run, Walk, for_each_run, strides_of, strides_within};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::{Simd, for_lanes};
use remat_ir::ops::BinaryFunction;
use std::marker::PhantomData;

/// Lanes of an operand that has one element for each, or one for all.
///
/// # Safety
/// The machine runs level `S`; the elements exist; `step` is 1 or 0.
#[inline(always)]
pub(super) unsafe fn lanes_of<S: Simd, T: Element>(from: *const T, i: usize, step: usize, lanes: usize) -> S::V {
    unsafe { if step == 0 { S::splat((*from).to_f32()) } else { T::load::<S>(from.add(i), lanes) } }
}

struct Forward<'a, T, P> {
    a: View<'a, T>,
    b: View<'a, T>,
    y: Out<'a, T>,
    pair: PhantomData<fn() -> P>,
}

impl<T: Element, P: Pair> Run<3> for Forward<'_, T, P> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, len: usize, [y, a, b]: [usize; 3], [_, a_step, b_step]: [usize; 3]) {
        let (a, b, y) = (self.a.at(a), self.b.at(b), self.y.at(y));
        for_lanes!(S, len, |i, lanes| {
            unsafe {
                let value = P::of::<S>(lanes_of::<S, T>(a, i, a_step, lanes), lanes_of::<S, T>(b, i, b_step, lanes));
                T::store::<S>(y.add(i), value, lanes);
            }
        });
    }
}

struct Call<'a, T> {
    pool: &'a ThreadPool,
    walk: Walk<3>,
    a: View<'a, T>,
    b: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> WithPair for Call<'_, T> {
    fn run<P: Pair>(self) {
        let Call { pool, walk, a, b, y } = self;
        for_each_run(pool, &walk, &Forward { a, b, y, pair: PhantomData::<fn() -> P> });
    }
}

/// `y = f(a, b)`, of shape `shape`, to which a and b of their shapes broadcast; `y` may be an operand of that shape, in place.
pub fn binary<'a, T: Element>(
    pool: &ThreadPool,
    function: BinaryFunction,
    shape: &[usize],
    a: (impl Into<View<'a, T>>, &[usize]),
    b: (impl Into<View<'a, T>>, &[usize]),
    y: impl Into<Out<'a, T>>,
) {
    let walk = Walk::new(shape, [strides_of(shape), strides_within(a.1, shape), strides_within(b.1, shape)]);
    let (a, b, y) = (a.0.into(), b.0.into(), y.into());
    assert_eq!(y.len(), walk.runs() * walk.inner(), "binary: y is not {shape:?}");
    choose(function, Call { pool, walk, a, b, y });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::pools;

    #[test]
    fn one_that_is_not_a_number_is_the_largest_and_the_smallest() {
        for pool in pools(&[1]) {
            for function in [BinaryFunction::Maximum, BinaryFunction::Minimum] {
                let (a, b, mut y) = ([f32::NAN, 1.0, 2.0], [1.0, f32::NAN, 3.0], [0.0; 3]);
                binary(&pool, function, &[3], (&a[..], &[3]), (&b[..], &[3]), &mut y[..]);
                assert_eq!(y.map(f32::is_nan), [true, true, false], "{}: {function:?}", pool.level());
            }
        }
    }

    #[test]
    fn long_runs_are_cut_into_tasks() {
        let len = 3 * super::super::pointwise::CHUNK + 5;
        let a: Vec<f32> = (0..2 * len).map(|i| i as f32).collect();
        for pool in pools(&[1, 3]) {
            let mut y = vec![0.0; 2 * len];
            binary(&pool, BinaryFunction::Add, &[2, len], (&a, &[2, len]), (&a[..len], &[len]), &mut y);
            assert!(y.iter().enumerate().all(|(i, &y)| y == (i + i % len) as f32), "{}", pool.level());
        }
    }
}
