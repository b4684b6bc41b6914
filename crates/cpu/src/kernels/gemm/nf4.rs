//! Decodes runs of NF4 elements: per block of 64 a table of what its 16 codes stand for, in the dtype that is wanted, and
//! a look-up per element. Invariant: numbers are those of [`Nf4View::decode`], rounded to that dtype. Work: 16 products
//! and 64 look-ups per block.

use remat_tensor::nf4::{BLOCK, Nf4View};

use crate::element::Element;
use crate::simd::Simd;

/// Decodes `count` elements from `first` on, in the order they are stored in.
#[inline(always)]
pub(super) unsafe fn decode<S: Simd, T: Element>(tensor: &Nf4View<'_>, first: usize, count: usize, to: *mut T) {
    let whole_blocks = tensor.elements() / BLOCK;
    let mut at = 0;
    while at < count {
        let element = first + at;
        let (block, within) = (element / BLOCK, element % BLOCK);
        let some = (BLOCK - within).min(count - at);
        unsafe {
            let table = table::<S, T>(tensor, block);
            let codes = tensor.codes.as_ptr().add(block * BLOCK / 2);
            if some == BLOCK {
                T::look_up::<S>(&table, codes, to.add(at));
            } else if block < whole_blocks {
                let mut decoded = [T::from_f32(0.0); BLOCK];
                T::look_up::<S>(&table, codes, decoded.as_mut_ptr());
                std::ptr::copy_nonoverlapping(decoded.as_ptr().add(within), to.add(at), some);
            } else {
                for index in 0..some {
                    *to.add(at + index) = table[tensor.code(element + index)];
                }
            }
        }
        at += some;
    }
}

/// What the 16 codes stand for in a block: products in f32, rounded to `T`.
#[inline(always)]
unsafe fn table<S: Simd, T: Element>(tensor: &Nf4View<'_>, block: usize) -> [T; 16] {
    let mut table = [T::from_f32(0.0); 16];
    unsafe {
        let absmax = S::splat(tensor.absmax(block));
        for first in (0..16).step_by(S::LANES) {
            let numbers = S::mul(S::load(tensor.map.as_ptr().add(first)), absmax);
            T::store::<S>(table.as_mut_ptr().add(first), numbers, S::LANES);
        }
    }
    table
}
