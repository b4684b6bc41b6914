//! Vectors of f32 and the way a kernel is compiled once for each level.
//!
//! A kernel is written once over `Simd`; `launch` and `Simd::outline` enter functions that carry the level's
//! `target_feature`, and everything below is `inline(always)`, so that the intrinsics land in a function that may use
//! them. Invariant: an operation acts on each lane alone and the folds have a fixed shape, so that an element's value
//! does not depend on its position. Look next at `simd/avx512.rs`, and at `vector_math.rs` for exp and sigmoid.

// SAFETY of every block here: the contract of `Simd`, that the machine runs the level and pointers are valid for the lanes
// named, which `kernels.rs` states for whole kernels.
#![allow(clippy::undocumented_unsafe_blocks)]

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
mod launch;
pub(crate) mod portable;
#[cfg(target_arch = "x86_64")]
mod x86;

pub(crate) use launch::launch;

use crate::pool::Scratch;
use remat_tensor::DynamicMap;

/// A piece of work that one thread does without stopping: one tile, one range of rows.
pub(crate) trait Kernel: Sync {
    /// Runs one task.
    ///
    /// # Safety
    /// The machine runs level `S`; no two concurrent tasks of one kernel write the same element.
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch);
}

/// A function body that is compiled on its own for each level instead of being inlined into its caller.
pub(crate) trait Outlined {
    /// Runs the body.
    ///
    /// # Safety
    /// The machine runs level `S`.
    unsafe fn call<S: Simd>(self);
}

/// One level's vectors. All functions are unsafe: the machine must run the level, pointers must be valid for the lanes
/// named (`LANES`, or the first `lanes` of a partial access).
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// A vector of `LANES` f32.
    type V: Copy;
    const LANES: usize;
    /// Rows of the matrix-product tile: rows times two vectors of accumulators fill the registers.
    const TILE_ROWS: usize;

    unsafe fn splat(x: f32) -> Self::V;
    unsafe fn load(p: *const f32) -> Self::V;
    /// The first `lanes` elements, zero in the others; touches nothing behind them.
    unsafe fn load_partial(p: *const f32, lanes: usize) -> Self::V;
    unsafe fn store(p: *mut f32, v: Self::V);
    unsafe fn store_partial(p: *mut f32, v: Self::V, lanes: usize);
    /// bf16 widened to f32 (exact).
    unsafe fn load_bf16(p: *const u16) -> Self::V;
    /// f32 rounded to bf16, to nearest, ties to even; NaN stays NaN.
    unsafe fn store_bf16(p: *mut u16, v: Self::V);

    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// `a * b + c`, rounded once where the level has it.
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// The larger; `b` if one is NaN.
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    /// The smaller; `b` if one is NaN.
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    /// `a >= b ? yes : no` in each lane.
    unsafe fn select_ge(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V;
    /// Nearest integer, ties to even, for |a| < 2^22.
    unsafe fn round(a: Self::V) -> Self::V;
    /// `2^n` for integral n in -127..=127; 0 at -127.
    unsafe fn exp2_integral(n: Self::V) -> Self::V;
    /// `p * 2^n` for p in 0.5..=2 and integral n in -125..=128.
    #[inline(always)]
    unsafe fn scale_exp2(p: Self::V, n: Self::V) -> Self::V {
        // As 2 p * 2^(n - 1): n reaches 128, whose power has no f32 of its own.
        unsafe { Self::mul(Self::add(p, p), Self::exp2_integral(Self::sub(n, Self::splat(1.0)))) }
    }
    /// The sum of all lanes, halves folded onto each other.
    unsafe fn sum(a: Self::V) -> f32;
    /// The largest lane.
    unsafe fn fold_max(a: Self::V) -> f32;

    /// `LANES` signed bytes widened to f32 (exact).
    unsafe fn load_i8(p: *const i8) -> Self::V;

    /// 64 words of a table by codes of four bits in 32 bytes, the first of two codes in the high half of a byte.
    #[inline(always)]
    unsafe fn look_up_words(table: &[u32; 16], codes: *const u8, to: *mut u32) {
        unsafe { look_up(table, codes, to) }
    }
    /// The same with 16-bit words.
    #[inline(always)]
    unsafe fn look_up_halves(table: &[u16; 16], codes: *const u8, to: *mut u16) {
        unsafe { look_up(table, codes, to) }
    }

    /// 256 numbers of a map by their codes.
    #[inline(always)]
    unsafe fn look_up_numbers(map: &DynamicMap, codes: *const u8, to: &mut [f32; 256]) {
        let numbers = map.numbers();
        for (i, to) in to.iter_mut().enumerate() {
            *to = numbers[usize::from(unsafe { *codes.add(i) })];
        }
    }
    /// The codes of the numbers of a map that are nearest to 256 numbers divided by one that is as large as any; of NaN
    /// any. A number below 0 gets a code below that of 0, if there is one.
    #[inline(always)]
    unsafe fn nearest_codes(map: &DynamicMap, from: &[f32; 256], divisor: f32, codes: *mut u8) {
        // A loop of its own, so that quotients become vectors.
        let scaled = from.map(|x| DynamicMap::quotient(x, divisor));
        for (i, x) in scaled.into_iter().enumerate() {
            unsafe { *codes.add(i) = map.code(x) };
        }
    }

    /// Asks for the cache line at `p`; reads nothing, so any address will do.
    #[inline(always)]
    unsafe fn fetch(_p: *const u8) {}

    /// Transposes a square block of LANES x LANES f32-sized words given as its rows.
    unsafe fn transpose(rows: &mut [Self::V; 16]);

    /// Runs `body` in a function of its own, compiled for this level.
    unsafe fn outline<F: Outlined>(body: F);
}

/// Looks 64 codes up, one by one.
#[inline(always)]
unsafe fn look_up<T: Copy>(table: &[T; 16], codes: *const u8, to: *mut T) {
    for pair in 0..32 {
        unsafe {
            let byte = usize::from(*codes.add(pair));
            *to.add(2 * pair) = table[byte >> 4];
            *to.add(2 * pair + 1) = table[byte & 15];
        }
    }
}

/// Walks `0..n` in vectors: `$i` is the first element, `$lanes` how many of them are inside.
macro_rules! for_lanes {
    ($S:ty, $n:expr, |$i:ident, $lanes:ident| $body:block) => {{
        let n: usize = $n;
        let mut $i = 0;
        while $i < n {
            let $lanes = (n - $i).min(<$S>::LANES);
            $body
            $i += <$S>::LANES;
        }
    }};
}
pub(crate) use for_lanes;

/// Repeats a body for constants `$I` below `$n` (at most 16), written out: the compiler keeps an array in registers only
/// if every index is a constant early on, and a loop over many vectors it unrolls too late for that.
macro_rules! unrolled {
    ($n:expr, |$I:ident| $body:block) => { unrolled!(@ $n, $I, $body, 0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15) };
    (@ $n:expr, $I:ident, $body:block, $($literal:literal)*) => {
        $({
            const $I: usize = $literal;
            if $I < $n $body
        })*
    };
}
pub(crate) use unrolled;
