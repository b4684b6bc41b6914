//! The form of packed operands: f32 values, or words of two bf16 for the dot product.
//!
//! Invariant: both operands of a product and all its blocks have one form, which depends on element types and level
//! alone. What a kernel makes itself (probabilities, cotangents of scores) is f32 and is narrowed, rounded once, where
//! the form asks for it.

#[cfg(target_arch = "x86_64")]
use super::dot;
use super::pack::{self, Source};
use super::tile::{self, Update};
use crate::Level;
use crate::element::Element;
use crate::simd::Simd;

/// How packed operands lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Form {
    /// Words of two bf16, neighbours along k; else f32.
    pub dot: bool,
}

#[allow(clippy::missing_safety_doc)]
impl Form {
    /// Of a product of these elements at a level.
    pub fn of<A: Element, B: Element>(level: Level) -> Form {
        Form { dot: cfg!(target_arch = "x86_64") && !A::IS_F32 && !B::IS_F32 && level.has_bf16_dot() }
    }

    /// Packs `rows` x `k` of a left operand.
    #[inline(always)]
    pub unsafe fn pack_rows<S: Simd, T: Element>(self, from: Source<T>, rows: usize, k: usize, to: *mut f32) {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.dot {
                return dot::pack_rows(from.as_words(), rows, k, to);
            }
            pack::pack_rows::<S, T>(from, rows, k, to);
        }
    }

    /// Packs `k` x `cols` of a right operand.
    #[inline(always)]
    pub unsafe fn pack_panels<S: Simd, T: Element>(self, from: Source<T>, k: usize, cols: usize, to: *mut f32) {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.dot {
                return dot::pack_panels(from.as_words(), k, cols, to);
            }
            pack::pack_panels::<S, T>(from, k, cols, to);
        }
    }

    /// Multiplies packed rows by packed panels.
    #[inline(always)]
    pub unsafe fn multiply<S: Simd>(
        self,
        a: *const f32,
        rows: usize,
        b: *const f32,
        cols: usize,
        k: usize,
        update: Update,
    ) {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.dot {
                return dot::multiply(a, rows, b, cols, k, update);
            }
            tile::multiply::<S>(a, rows, b, cols, k, update);
        }
    }

    /// Makes a row of `k` f32 a packed row, in place. The row has room for a vector behind its end.
    #[inline(always)]
    pub unsafe fn narrow_row<S: Simd>(self, row: *mut f32, k: usize) {
        if !self.dot {
            return;
        }
        // Each vector is written to where an earlier one was read.
        let words: *mut u16 = row.cast();
        for j in (0..k).step_by(S::LANES) {
            unsafe { S::store_bf16(words.add(j), S::load(row.add(j))) };
        }
        if k % 2 == 1 {
            unsafe { *words.add(k) = 0 };
        }
    }
}
