//! The form of packed operands: f32 values, or words of two bf16 for the dot product.
//!
//! Invariant: both operands of a product and all its blocks have one form, which depends on element types and level
//! alone. What a kernel makes itself (probabilities, cotangents of scores) is f32 and is narrowed, rounded once, where
//! the form asks for it.

use super::ahead::Ahead;
use super::blocks::ROW_STRIDE;
#[cfg(target_arch = "x86_64")]
use super::dot;
use super::pack::{self, Panels, Source};
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

    /// Words that `k` values of a packed row take.
    #[inline(always)]
    pub fn words(self, k: usize) -> usize {
        if self.dot { k.div_ceil(2) } else { k }
    }

    /// Packed panels of depth `k`.
    #[inline(always)]
    pub fn panels(self, start: *const f32, k: usize) -> Panels {
        Panels { start, words: self.words(k) }
    }

    /// The panels from row `k` on; even.
    #[inline(always)]
    pub unsafe fn below<S: Simd>(self, panels: Panels, k: usize) -> Panels {
        Panels { start: unsafe { panels.start.add(self.words(k) * 2 * S::LANES) }, ..panels }
    }

    /// Whether rows of `k` values, in whole cache lines, are packed rows already.
    #[inline(always)]
    pub fn rows_as_they_are<T: Element>(self, k: usize) -> bool {
        self.dot != T::IS_F32 && (k * size_of::<T>()).is_multiple_of(64)
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
        b: Panels,
        cols: usize,
        k: usize,
        update: Update,
    ) {
        let mut nothing = Ahead::NOTHING;
        unsafe { self.multiply_ahead::<S>(a, rows, b, cols, k, update, &mut nothing) }
    }

    /// The same, and fetches what comes after it.
    #[inline(always)]
    #[allow(clippy::too_many_arguments)]
    pub unsafe fn multiply_ahead<S: Simd>(
        self,
        a: *const f32,
        rows: usize,
        b: Panels,
        cols: usize,
        k: usize,
        update: Update,
        ahead: &mut Ahead,
    ) {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.dot {
                return dot::multiply(a, rows, b, cols, k, update, ahead);
            }
            tile::multiply::<S>(a, rows, b, cols, k, update, ahead);
        }
    }

    /// Makes the values from `from` to `k` of a row of f32 those of a packed row, in place. `from` is a multiple of
    /// 32; the row has room for as many behind its end.
    #[inline(always)]
    pub unsafe fn narrow_row(self, row: *mut f32, from: usize, k: usize) {
        #[cfg(target_arch = "x86_64")]
        if self.dot {
            unsafe { dot::narrow_row(row, from, k) };
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (row, from, k);
    }

    /// Packs the transpose of a tile whose `rows` rows of `cols` values were narrowed.
    #[inline(always)]
    pub unsafe fn pack_transposed<S: Simd>(self, tile: *const f32, rows: usize, cols: usize, to: *mut f32) {
        unsafe {
            #[cfg(target_arch = "x86_64")]
            if self.dot {
                let from = Source { start: tile.cast::<u16>(), row_stride: 1, col_stride: 2 * ROW_STRIDE };
                return dot::pack_rows(from, cols, rows, to);
            }
            let from = Source { start: tile, row_stride: 1, col_stride: ROW_STRIDE };
            pack::pack_rows::<S, f32>(from, cols, rows, to);
        }
    }
}
