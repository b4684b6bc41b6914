//! Decodes runs of int8 elements: two products each, in vectors. Invariant: numbers are those of [`Int8View::decode`],
//! rounded to the dtype that is wanted.

use remat_tensor::int8::{Int8View, STEP};

use crate::element::Element;
use crate::simd::{Simd, for_lanes};

/// Decodes `count` elements from `first` on, all of one row.
#[inline(always)]
pub(super) unsafe fn decode<S: Simd, T: Element>(
    tensor: &Int8View<'_>,
    row: usize,
    first: usize,
    count: usize,
    to: *mut T,
) {
    let codes = &tensor.codes[first..first + count];
    unsafe {
        let (absmax, step) = (S::splat(tensor.absmax(row)), S::splat(STEP));
        for_lanes!(S, count, |at, lanes| {
            let code = if lanes == S::LANES {
                S::load_i8(codes.as_ptr().add(at))
            } else {
                let mut last = [0; 16];
                last[..lanes].copy_from_slice(&codes[at..]);
                S::load_i8(last.as_ptr())
            };
            T::store::<S>(to.add(at), S::mul(S::mul(code, absmax), step), lanes);
        });
    }
}
