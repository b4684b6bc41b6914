//! A value where a mask says so, element-wise. Bound by memory.

use super::strided::{Run, Walk, for_each_run, strides_of, strides_within};
use crate::pool::ThreadPool;
use crate::shared::{Out, View};
use crate::simd::Simd;

struct Filled<'a, T> {
    x: View<'a, T>,
    mask: &'a [i32],
    value: T,
    filled: bool,
    y: Out<'a, T>,
}

impl<T: Copy + Send + Sync> Run<2> for Filled<'_, T> {
    #[inline(always)]
    unsafe fn run<S: Simd>(&self, len: usize, [y, mask]: [usize; 2], [_, mask_step]: [usize; 2]) {
        for i in 0..len {
            let is_set = self.mask[mask + i * mask_step] != 0;
            unsafe { *self.y.at(y + i) = if is_set == self.filled { self.value } else { *self.x.at(y + i) } };
        }
    }
}

/// `y` is `value` where the mask, which broadcasts to x of shape `shape`, is set, or where it is not if `filled` is false; else x.
/// `y` may be `x`, in place.
pub fn masked_fill<'a, T: Copy + Send + Sync + 'a>(
    pool: &ThreadPool,
    shape: &[usize],
    x: impl Into<View<'a, T>>,
    mask: (&[i32], &[usize]),
    (value, filled): (T, bool),
    y: impl Into<Out<'a, T>>,
) {
    let walk = Walk::new(shape, [strides_of(shape), strides_within(mask.1, shape)]);
    let (x, y) = (x.into(), y.into());
    assert_eq!([x.len(), y.len()], [walk.runs() * walk.inner(); 2], "masked_fill: x or y is not {shape:?}");
    for_each_run(pool, &walk, &Filled { x, mask: mask.0, value, filled, y });
}
