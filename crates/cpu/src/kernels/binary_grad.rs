//! The derivative of a function of two numbers by one of them, in the result's shape: `d = dy * f'(a, b)`. Bound by memory, but
//! for powers. Look at `pairs.rs` for the slopes.

use super::binary::lanes_of;
use super::pairs::{Pair, WithPair, choose_slope};
use super::strided::{Run, Walk, for_each_run, strides_of, strides_within};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::{Simd, for_lanes};
use remat_ir::ops::BinaryFunction;
use std::marker::PhantomData;

struct Backward<'a, T, P> {
    dy: View<'a, T>,
    a: &'a [T],
    b: &'a [T],
    d: Out<'a, T>,
    pair: PhantomData<fn() -> P>,
}

impl<T: Element, P: Pair> Run<3> for Backward<'_, T, P> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, len: usize, [d, a, b]: [usize; 3], [_, a_step, b_step]: [usize; 3]) {
        let (dy, d) = (self.dy.at(d), self.d.at(d));
        for_lanes!(S, len, |i, lanes| {
            unsafe {
                let a = lanes_of::<S, T>(self.a.as_ptr().add(a), i, a_step, lanes);
                let b = lanes_of::<S, T>(self.b.as_ptr().add(b), i, b_step, lanes);
                let dy = T::load::<S>(dy.add(i), lanes);
                T::store::<S>(d.add(i), S::mul(dy, P::of::<S>(a, b)), lanes);
            }
        });
    }
}

struct Call<'a, T> {
    pool: &'a ThreadPool,
    walk: Walk<3>,
    dy: View<'a, T>,
    a: &'a [T],
    b: &'a [T],
    d: Out<'a, T>,
}

impl<T: Element> WithPair for Call<'_, T> {
    fn run<P: Pair>(self) {
        let Call { pool, walk, dy, a, b, d } = self;
        for_each_run(pool, &walk, &Backward { dy, a, b, d, pair: PhantomData::<fn() -> P> });
    }
}

/// `d = dy * df/da` or `dy * df/db`, for operand 0 or 1, all of shape `shape` but a and b, which broadcast to it; `d` may be
/// `dy`, in place.
pub fn binary_grad<'a, T: Element>(
    pool: &ThreadPool,
    (function, operand): (BinaryFunction, usize),
    shape: &[usize],
    dy: impl Into<View<'a, T>>,
    a: (&[T], &[usize]),
    b: (&[T], &[usize]),
    d: impl Into<Out<'a, T>>,
) {
    let walk = Walk::new(shape, [strides_of(shape), strides_within(a.1, shape), strides_within(b.1, shape)]);
    let (dy, d) = (dy.into(), d.into());
    assert_eq!([dy.len(), d.len()], [walk.runs() * walk.inner(); 2], "binary_grad: dy and d are not {shape:?}");
    choose_slope(function, operand, Call { pool, walk, dy, a: a.0, b: b.0, d });
}
