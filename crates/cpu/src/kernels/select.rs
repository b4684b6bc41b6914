//! One of two operands by a mask, element-wise, with broadcasting. Bound by memory.

use super::strided::{Run, Walk, for_each_run, strides_of, strides_within};
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::Simd;

struct Selected<'a, T> {
    mask: &'a [i32],
    a: &'a [T],
    b: &'a [T],
    y: Out<'a, T>,
}

impl<T: Copy + Send + Sync> Run<4> for Selected<'_, T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, len: usize, [y, mask, a, b]: [usize; 4], [_, mask_step, a_step, b_step]: [usize; 4]) {
        for i in 0..len {
            let (yes, no) = (self.a[a + i * a_step], self.b[b + i * b_step]);
            unsafe { *self.y.at(y + i) = if self.mask[mask + i * mask_step] != 0 { yes } else { no } };
        }
    }
}

/// `y`, of shape `shape`, is a where the mask is not 0 and b elsewhere; all three, of their shapes, broadcast to it.
pub fn select<T: Copy + Send + Sync>(
    pool: &ThreadPool,
    shape: &[usize],
    mask: (&[i32], &[usize]),
    a: (&[T], &[usize]),
    b: (&[T], &[usize]),
    y: &mut [T],
) {
    let within = |operand: &[usize]| strides_within(operand, shape);
    let walk = Walk::new(shape, [strides_of(shape), within(mask.1), within(a.1), within(b.1)]);
    assert_eq!(y.len(), walk.runs() * walk.inner(), "select: y is not {shape:?}");
    for_each_run(pool, &walk, &Selected { mask: mask.0, a: a.0, b: b.0, y: y.into() });
}
