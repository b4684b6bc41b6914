//! The element types that kernels read and write; arithmetic is f32 whatever the storage.
//! Invariant: loading is exact, storing rounds once, to nearest, ties to even.

// SAFETY of every block here: the contract of `Simd`, that the machine runs the level and pointers are valid for the lanes
// named, which `kernels.rs` states for whole kernels.
#![allow(clippy::undocumented_unsafe_blocks)]

use half::bf16;

use crate::simd::Simd;

/// Storage of one real number: f32 or bf16.
pub trait Element: Copy + PartialOrd + Send + Sync + 'static + private::Lanes {
    /// Widens to f32, exactly.
    fn to_f32(self) -> f32;
    /// Rounds to nearest, ties to even.
    fn from_f32(x: f32) -> Self;
}

impl Element for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
}

impl Element for bf16 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        bf16::to_f32(self)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> bf16 {
        bf16::from_f32(x)
    }
}

pub(crate) use private::Lanes;

#[allow(private_bounds, private_interfaces)]
mod private {
    use super::{Simd, bf16};

    /// Vector access, out of sight of the crate's users: `lanes` is at most `S::LANES`, and only that many are touched.
    #[allow(missing_docs, clippy::missing_safety_doc)]
    pub trait Lanes: Sized {
        const IS_F32: bool;
        unsafe fn load<S: Simd>(p: *const Self, lanes: usize) -> S::V;
        unsafe fn store<S: Simd>(p: *mut Self, v: S::V, lanes: usize);
        /// 64 elements of a table, by codes of four bits, the first of two in the high half of a byte.
        unsafe fn look_up<S: Simd>(table: &[Self; 16], codes: *const u8, to: *mut Self);
    }

    impl Lanes for f32 {
        const IS_F32: bool = true;
        #[inline(always)]
        unsafe fn load<S: Simd>(p: *const f32, lanes: usize) -> S::V {
            unsafe { if lanes == S::LANES { S::load(p) } else { S::load_partial(p, lanes) } }
        }
        #[inline(always)]
        unsafe fn store<S: Simd>(p: *mut f32, v: S::V, lanes: usize) {
            unsafe { if lanes == S::LANES { S::store(p, v) } else { S::store_partial(p, v, lanes) } }
        }
        #[inline(always)]
        unsafe fn look_up<S: Simd>(table: &[f32; 16], codes: *const u8, to: *mut f32) {
            unsafe { S::look_up_words(bytemuck::cast_ref(table), codes, to.cast()) }
        }
    }

    impl Lanes for bf16 {
        const IS_F32: bool = false;
        #[inline(always)]
        unsafe fn load<S: Simd>(p: *const bf16, lanes: usize) -> S::V {
            unsafe {
                if lanes == S::LANES {
                    return S::load_bf16(p.cast());
                }
                let mut words = [0u16; 16];
                std::ptr::copy_nonoverlapping(p.cast::<u16>(), words.as_mut_ptr(), lanes);
                S::load_bf16(words.as_ptr())
            }
        }
        #[inline(always)]
        unsafe fn store<S: Simd>(p: *mut bf16, v: S::V, lanes: usize) {
            unsafe {
                if lanes == S::LANES {
                    return S::store_bf16(p.cast(), v);
                }
                let mut words = [0u16; 16];
                S::store_bf16(words.as_mut_ptr(), v);
                std::ptr::copy_nonoverlapping(words.as_ptr(), p.cast::<u16>(), lanes);
            }
        }
        #[inline(always)]
        unsafe fn look_up<S: Simd>(table: &[bf16; 16], codes: *const u8, to: *mut bf16) {
            unsafe { S::look_up_halves(bytemuck::cast_ref(table), codes, to.cast()) }
        }
    }
}
