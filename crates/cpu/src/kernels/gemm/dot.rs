//! The tile kernel and the packing of two bf16 operands for the bf16 dot product (`vdpbf16ps`).
//!
//! The layouts are those of `pack.rs` with a word of two bf16, neighbours along k, in the place of an f32; k is half as
//! long, an odd end is filled with zero. The instruction adds both products to an f32 sum with its own fixed rounding
//! (subnormals are zero), so this level has bits of its own. Roofline: four times the FLOP of an f32 multiply-add per
//! word loaded, at half its rate or better.

use std::arch::x86_64::*;
use std::mem::transmute;

use super::ahead::{Ahead, STEPS};
use super::blocks::ROW_STRIDE;
use super::pack::{Panels, Source};
use super::tile::{Update, by_size, store_tile};
use crate::simd::avx512::Avx512;
use crate::simd::{Simd, for_lanes, unrolled};

const L: usize = Avx512::LANES;
const WIDTH: usize = 2 * L;
/// How many pairs of rows ahead of the one at hand are fetched.
const FETCHED_PAIRS: usize = 8;

/// `count` (at most 32) neighbouring bf16 as words of two, zero behind them.
#[inline(always)]
unsafe fn along(p: *const u16, count: usize) -> __m512 {
    unsafe {
        if count == 2 * L {
            return _mm512_loadu_ps(p.cast());
        }
        let mask = ((1u64 << count) - 1) as __mmask32;
        _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(mask, p.cast()))
    }
}

/// `lanes` (at most 16) words of one bf16 of each of two rows; the second row may be missing.
#[inline(always)]
unsafe fn across(even: *const u16, odd: Option<*const u16>, lanes: usize) -> __m512 {
    unsafe {
        let mask = ((1u32 << lanes) - 1) as __mmask16;
        let load = |p: *const u16| _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p.cast()));
        let low = load(even);
        let high = odd.map_or(_mm512_setzero_si512(), |odd| _mm512_slli_epi32::<16>(load(odd)));
        _mm512_castsi512_ps(_mm512_or_si512(low, high))
    }
}

/// One word of two elements of a row or column of stride `stride`.
#[inline(always)]
unsafe fn word(p: *const u16, stride: usize, both: bool) -> f32 {
    unsafe {
        let odd = if both { u32::from(*p.add(stride)) << 16 } else { 0 };
        f32::from_bits(u32::from(*p) | odd)
    }
}

/// Packs `rows` x `k` of the left operand as rows of words.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn pack_rows(a: Source<u16>, rows: usize, k: usize, to: *mut f32) {
    unsafe {
        if a.col_stride == 1 {
            for i in 0..rows {
                let (from, to) = (a.start.add(i * a.row_stride), to.add(i * ROW_STRIDE));
                for p in (0..k).step_by(2 * L) {
                    _mm512_storeu_ps(to.add(p / 2), along(from.add(p), (k - p).min(2 * L)));
                }
            }
            return;
        }
        for p in (0..k).step_by(2 * L) {
            for_lanes!(Avx512, rows, |i, lanes| {
                let mut block = [_mm512_setzero_ps(); 16];
                for (pair, words) in block.iter_mut().enumerate().take((k - p).min(2 * L).div_ceil(2)) {
                    *words = two_columns(a.from(i, p + 2 * pair), p + 2 * pair + 1 < k, lanes);
                }
                Avx512::transpose(&mut block);
                for (row, words) in block.iter().enumerate().take(lanes) {
                    _mm512_storeu_ps(to.add((i + row) * ROW_STRIDE + p / 2), *words);
                }
            });
        }
    }
}

/// Words of the first two columns of a strided operand, for `lanes` rows.
#[inline(always)]
unsafe fn two_columns(from: Source<u16>, both: bool, lanes: usize) -> __m512 {
    unsafe {
        if from.row_stride == 1 {
            return across(from.start, both.then(|| from.start.add(from.col_stride)), lanes);
        }
        let mut words = [0.0; L];
        for (row, at) in words.iter_mut().enumerate().take(lanes) {
            *at = word(from.start.add(row * from.row_stride), from.col_stride, both);
        }
        _mm512_loadu_ps(words.as_ptr())
    }
}

/// The words of 32 neighbouring columns of two rows, the second of which may be missing.
#[inline(always)]
unsafe fn interleaved(from: Source<u16>, both: bool) -> [__m512; 2] {
    unsafe {
        let even = _mm512_loadu_si512(from.start.cast());
        let odd =
            if both { _mm512_loadu_si512(from.start.add(from.row_stride).cast()) } else { _mm512_setzero_si512() };
        // Within quarters of 128 bits; the quarters are then brought into order.
        let (low, high) = (_mm512_unpacklo_epi16(even, odd), _mm512_unpackhi_epi16(even, odd));
        let first = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), high);
        let second = _mm512_permutex2var_epi64(low, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), high);
        [_mm512_castsi512_ps(first), _mm512_castsi512_ps(second)]
    }
}

/// Packs `k` x `cols` of the right operand as panels of words.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")]
pub(super) unsafe fn pack_panels(b: Source<u16>, k: usize, cols: usize, to: *mut f32) {
    let words = k.div_ceil(2);
    unsafe {
        for_lanes!(Avx512, cols, |j, lanes| {
            let to = to.add(j / WIDTH * WIDTH * words + j % WIDTH);
            if b.row_stride == 1 {
                for p in (0..k).step_by(2 * L) {
                    let count = (k - p).min(2 * L);
                    let mut block = [_mm512_setzero_ps(); 16];
                    if lanes == L && count == 2 * L {
                        unrolled!(L, |I| { block[I] = _mm512_loadu_ps(b.from(p, j + I).start.cast()) });
                        Avx512::transpose(&mut block);
                        unrolled!(L, |I| { _mm512_storeu_ps(to.add((p / 2 + I) * WIDTH), block[I]) });
                        continue;
                    }
                    for (column, at) in block.iter_mut().enumerate().take(lanes) {
                        *at = along(b.from(p, j + column).start, count);
                    }
                    Avx512::transpose(&mut block);
                    for (pair, at) in block.iter().enumerate().take(count.div_ceil(2)) {
                        _mm512_storeu_ps(to.add((p / 2 + pair) * WIDTH), *at);
                    }
                }
            } else if b.col_stride == 1 && j % WIDTH == 0 && cols - j >= WIDTH {
                for pair in 0..words {
                    // Rows lie far apart: nothing else fetches the ones to come.
                    for row in [0, 1] {
                        let ahead = (2 * (pair + FETCHED_PAIRS) + row) * b.row_stride + j * b.col_stride;
                        _mm_prefetch::<_MM_HINT_T0>(b.start.wrapping_add(ahead).cast());
                    }
                    let [low, high] = interleaved(b.from(2 * pair, j), 2 * pair + 1 < k);
                    _mm512_storeu_ps(to.add(pair * WIDTH), low);
                    _mm512_storeu_ps(to.add(pair * WIDTH + L), high);
                }
            } else if b.col_stride != 1 || cols - j / WIDTH * WIDTH < WIDTH {
                for pair in 0..words {
                    let from = b.from(2 * pair, j).transposed();
                    _mm512_storeu_ps(to.add(pair * WIDTH), two_columns(from, 2 * pair + 1 < k, lanes));
                }
            }
        });
    }
}

/// Rounds the values from `from` to `k` of a row to bf16, in place: each vector lands where earlier ones were read.
///
/// The product takes subnormals for zero, so it does not matter that this instruction makes them zero.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16")]
pub(super) unsafe fn narrow_row(row: *mut f32, from: usize, k: usize) {
    let halves: *mut u16 = row.cast();
    unsafe {
        for j in (from..k).step_by(WIDTH) {
            let both = _mm512_cvtne2ps_pbh(_mm512_loadu_ps(row.add(j + L)), _mm512_loadu_ps(row.add(j)));
            _mm512_storeu_si512(halves.add(j).cast(), transmute::<__m512bh, __m512i>(both));
        }
        if k % 2 == 1 {
            *halves.add(k) = 0;
        }
    }
}

/// One register tile over `words` words of k.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16")]
#[inline(never)]
unsafe fn tile<const ROWS: usize, const COLS: usize>(
    words: usize,
    mut a: *const f32,
    mut b: *const f32,
    cols: usize,
    update: Update,
    ahead: &mut Ahead,
) {
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); COLS]; ROWS];
        let mut local = Ahead { ..*ahead };
        let mut left = words;
        while left > 0 {
            local.step::<Avx512>();
            let steps = left.min(STEPS);
            for _ in 0..steps {
                let mut columns = [_mm512_setzero_ps(); COLS];
                for (j, column) in columns.iter_mut().enumerate() {
                    *column = _mm512_loadu_ps(b.add(j * L));
                }
                unrolled!(ROWS, |I| {
                    let x = transmute::<__m512, __m512bh>(_mm512_set1_ps(*a.add(I * ROW_STRIDE)));
                    for (chain, column) in acc[I].iter_mut().zip(columns) {
                        *chain = _mm512_dpbf16_ps(*chain, x, transmute::<__m512, __m512bh>(column));
                    }
                });
                a = a.add(1);
                b = b.add(WIDTH);
            }
            left -= steps;
        }
        *ahead = local;
        if update.rounded.c.is_null() {
            store_tile::<Avx512, ROWS, COLS>(&acc, cols, update);
        } else {
            round_tile(&acc, cols, update);
        }
    }
}

/// Adds the chains of a tile onto what they are added to, and rounds the sums into C.
///
/// By the bf16 instruction, which makes subnormals zero, as the product did before it.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma,avx512bf16")]
unsafe fn round_tile<const ROWS: usize, const COLS: usize>(
    acc: &[[__m512; COLS]; ROWS],
    cols: usize,
    Update { alpha, onto, onto_stride, rounded, .. }: Update,
) {
    unsafe {
        let alpha = _mm512_set1_ps(alpha);
        let mask = ((1u64 << cols) - 1) as __mmask32;
        let lanes = |j: usize| (mask >> (j * L)) as __mmask16;
        let widened = |p: *const u16, j: usize| {
            let words = _mm256_maskz_loadu_epi16(lanes(j), p.add(j * L).cast());
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(words)))
        };
        let mut bias = [_mm512_setzero_ps(); COLS];
        if !rounded.bias.is_null() {
            for (j, bias) in bias.iter_mut().enumerate() {
                *bias = widened(rounded.bias, j);
            }
        }
        unrolled!(ROWS, |I| {
            let mut sums = [_mm512_setzero_ps(); 2];
            for (j, chain) in acc[I].iter().enumerate() {
                let mut sum = if onto.is_null() {
                    _mm512_mul_ps(alpha, *chain)
                } else {
                    let onto = _mm512_maskz_loadu_ps(lanes(j), onto.add(I * onto_stride + j * L));
                    _mm512_fmadd_ps(alpha, *chain, onto)
                };
                if !rounded.start.is_null() {
                    sum = _mm512_add_ps(widened(rounded.start.add(I * rounded.stride), j), sum);
                }
                if !rounded.bias.is_null() {
                    sum = _mm512_add_ps(sum, bias[j]);
                }
                sums[j] = sum;
            }
            let both = transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(sums[1], sums[0]));
            let to = rounded.c.add(I * rounded.stride);
            if cols == WIDTH {
                _mm512_storeu_si512(to.cast(), both);
            } else {
                _mm512_mask_storeu_epi16(to.cast(), mask, both);
            }
        });
    }
}

/// Multiplies packed rows by packed panels over one block of k and updates `rows` x `cols` of C.
///
/// # Safety
/// The machine has the bf16 dot product; the packed operands hold `k` values.
pub(super) unsafe fn multiply(
    a: *const f32,
    rows: usize,
    b: Panels,
    cols: usize,
    k: usize,
    update: Update,
    ahead: &mut Ahead,
) {
    let words = k.div_ceil(2);
    for i in (0..rows).step_by(Avx512::TILE_ROWS) {
        for j in (0..cols).step_by(WIDTH) {
            let (height, across) = ((rows - i).min(Avx512::TILE_ROWS), (cols - j).min(WIDTH));
            unsafe {
                let (a, b, update) = (a.add(i * ROW_STRIDE), b.start.add(j * b.words), update.from(i, j));
                by_size!(height, across.div_ceil(L), |R, C| tile::<R, C>(words, a, b, across, update, ahead));
            }
        }
    }
}
