//! Relations of two numbers, element-wise, with broadcasting: a mask of 0 and 1. Bound by memory.

use super::strided::{Run, Walk, for_each_run, strides_of, strides_within};
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;
use remat_ir::ops::Relation;

struct Compared<'a, T> {
    a: &'a [T],
    b: &'a [T],
    relation: Relation,
    mask: Out<'a, i32>,
}

impl<T: Copy + PartialOrd + Sync> Run<3> for Compared<'_, T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, len: usize, [mask, a, b]: [usize; 3], [_, a_step, b_step]: [usize; 3]) {
        for i in 0..len {
            let holds = self.relation.holds(self.a[a + i * a_step], self.b[b + i * b_step]);
            unsafe { *self.mask.at(mask + i) = i32::from(holds) };
        }
    }
}

/// `mask = a ? b`, of shape `shape`, to which a and b of their shapes broadcast.
pub fn compare<T: Copy + PartialOrd + Sync>(
    pool: &ThreadPool,
    relation: Relation,
    shape: &[usize],
    a: (&[T], &[usize]),
    b: (&[T], &[usize]),
    mask: &mut [i32],
) {
    let walk = Walk::new(shape, [strides_of(shape), strides_within(a.1, shape), strides_within(b.1, shape)]);
    assert_eq!(mask.len(), walk.runs() * walk.inner(), "compare: the mask is not {shape:?}");
    for_each_run(pool, &walk, &Compared { a: a.0, b: b.0, relation, mask: mask.into() });
}
