//! Eight f32 in a 256-bit register, with fused multiply-add.

use std::arch::x86_64::*;

use super::x86::{entries, intrinsics, max4, one_instruction_each, sum4, transposed_quarters};
use super::{Kernel, Outlined, Simd, nearest_code};
use crate::pool::Scratch;
use remat_tensor::DynamicMap;
use remat_tensor::decades::{Decades, LEAST_MAGNITUDE, PLACE_BITS, UNSURE};

/// AVX2 with FMA.
#[derive(Clone, Copy)]
pub(crate) struct Avx2;

entries!(Avx2, "avx2,fma");

/// Sign bits for the first `lanes` lanes.
#[inline(always)]
unsafe fn mask(lanes: usize) -> __m256i {
    const WINDOW: [i32; 16] = [-1, -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0];
    unsafe { _mm256_loadu_si256(WINDOW.as_ptr().add(8 - lanes).cast()) }
}

/// The tables of a map's decades in registers. A register has room for eight decades: the ninth, which is the number 1
/// alone, stands apart.
struct DecadeTables {
    /// A search among the first seven boundaries: the middle one, those of its halves, then all of them, by number. The
    /// last one.
    bounds: [__m256i; 5],
    scale: __m256,
    shift: __m256,
    last: __m256i,
    one: __m256i,
}

impl DecadeTables {
    #[inline(always)]
    unsafe fn of(decades: &Decades) -> Self {
        unsafe {
            let all = |bits: u32| _mm256_set1_epi32(bits as i32);
            let bounds = &decades.bounds;
            let by_number = _mm256_loadu_si256(bounds.as_ptr().cast());
            DecadeTables {
                bounds: [all(bounds[3]), all(bounds[1]), all(bounds[5]), by_number, all(bounds[7])],
                scale: _mm256_loadu_ps(decades.scale.as_ptr()),
                shift: _mm256_loadu_ps(decades.shift.as_ptr()),
                last: _mm256_loadu_si256(decades.last.as_ptr().cast()),
                one: all(decades.last[8]),
            }
        }
    }

    /// The places of eight numbers among those of their sign, and all bits of those that are not sure.
    #[inline(always)]
    unsafe fn places(&self, x: __m256) -> (__m256i, __m256i) {
        unsafe {
            let bits = _mm256_castps_si256(x);
            let magnitude = _mm256_and_si256(bits, _mm256_set1_epi32(0x7fff_ffff));
            let magnitude = _mm256_max_epi32(magnitude, _mm256_set1_epi32(LEAST_MAGNITUDE.to_bits() as i32));
            // Of two equally near numbers the lower one: of negative ones that is the one further from 0.
            let compared = _mm256_sub_epi32(magnitude, _mm256_srai_epi32::<31>(bits));
            let [middle, low, high, by_number, last] = self.bounds;
            let upper = _mm256_cmpgt_epi32(compared, middle);
            let beyond = _mm256_cmpgt_epi32(compared, _mm256_blendv_epi8(low, high, upper));
            let four = _mm256_and_si256(upper, _mm256_set1_epi32(4));
            let even = _mm256_or_si256(four, _mm256_and_si256(beyond, _mm256_set1_epi32(2)));
            let odd = _mm256_cmpgt_epi32(compared, _mm256_permutevar8x32_epi32(by_number, even));
            let decade = _mm256_sub_epi32(even, odd);
            let scale = _mm256_permutevar8x32_ps(self.scale, decade);
            let shift = _mm256_permutevar8x32_ps(self.shift, decade);
            let units = _mm256_cvtps_epi32(_mm256_fmadd_ps(_mm256_castsi256_ps(magnitude), scale, shift));
            let place = _mm256_srli_epi32::<{ PLACE_BITS as i32 }>(units);
            let place = _mm256_min_epi32(place, _mm256_permutevar8x32_epi32(self.last, decade));
            let is_one = _mm256_cmpgt_epi32(compared, last);
            let within = _mm256_and_si256(units, _mm256_set1_epi32(UNSURE as i32));
            let unsure = _mm256_andnot_si256(is_one, _mm256_cmpeq_epi32(within, _mm256_setzero_si256()));
            (_mm256_blendv_epi8(place, self.one, is_one), unsure)
        }
    }

    /// The codes of eight numbers divided by one, and all bits of those that are not sure. `zero` is the code of 0.
    #[inline(always)]
    unsafe fn codes(&self, number: __m256, by: __m256, zero: u8) -> (__m256i, __m256i) {
        unsafe {
            if zero == 0 {
                // A map without negative numbers: codes are places, and what is below 0 counts as 0.
                return self.places(_mm256_div_ps(_mm256_max_ps(number, _mm256_setzero_ps()), by));
            }
            let (zeros, one) = (_mm256_set1_epi32(i32::from(zero)), _mm256_set1_epi32(1));
            let negative = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_LT_OQ>(number, _mm256_setzero_ps()));
            let (place, unsure) = self.places(_mm256_div_ps(number, by));
            // A number below 0 keeps its sign, and the map may have none as far below 0 as 1.
            let below = _mm256_min_epi32(_mm256_max_epi32(place, one), zeros);
            let place = _mm256_blendv_epi8(place, below, negative);
            let signed = _mm256_sub_epi32(_mm256_xor_si256(place, negative), negative);
            (_mm256_add_epi32(zeros, signed), unsure)
        }
    }
}

/// The codes of some of 32 numbers, one by one.
#[cold]
#[inline(never)]
unsafe fn look_up_codes(map: &DynamicMap, zero: u8, from: *const f32, divisor: f32, mut which: u32, codes: *mut u8) {
    while which != 0 {
        let at = which.trailing_zeros() as usize;
        unsafe { *codes.add(at) = nearest_code(map, zero, *from.add(at), divisor) };
        which &= which - 1;
    }
}

impl Simd for Avx2 {
    type V = __m256;
    const LANES: usize = 8;
    const TILE_ROWS: usize = 6;

    one_instruction_each!(
        _mm256_set1_ps _mm256_loadu_ps _mm256_storeu_ps _mm256_add_ps _mm256_sub_ps
        _mm256_mul_ps _mm256_div_ps _mm256_sqrt_ps _mm256_fmadd_ps _mm256_max_ps _mm256_min_ps
    );

    #[inline(always)]
    unsafe fn load_partial(p: *const f32, lanes: usize) -> Self::V {
        unsafe { _mm256_maskload_ps(p, mask(lanes)) }
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: Self::V, lanes: usize) {
        unsafe { _mm256_maskstore_ps(p, mask(lanes), v) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        unsafe {
            let words = _mm256_cvtepu16_epi32(_mm_loadu_si128(p.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(words))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V) {
        unsafe {
            let bits = _mm256_castps_si256(v);
            // Add half of the last kept bit, less one if that bit is even; NaN would carry over, so it is set quiet.
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let top = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let packed = _mm_packus_epi32(_mm256_castsi256_si128(top), _mm256_extracti128_si256::<1>(top));
            _mm_storeu_si128(p.cast(), packed);
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn select_ge(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        unsafe { _mm256_blendv_ps(no, yes, _mm256_cmp_ps::<_CMP_GE_OQ>(a, b)) }
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn exp2_integral(n: Self::V) -> Self::V {
        unsafe {
            let exponent = _mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            sum4(four)
        }
    }
    #[inline(always)]
    unsafe fn fold_max(a: Self::V) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps::<1>(a));
            max4(four)
        }
    }
    #[inline(always)]
    unsafe fn look_up_numbers(map: &DynamicMap, codes: *const u8, to: &mut [f32; 256]) {
        let numbers = map.numbers();
        for i in (0..256).step_by(8) {
            unsafe {
                // Eight loads take less time than one gather.
                let at = |lane: usize| numbers[usize::from(*codes.add(i + lane))];
                let eight = _mm256_setr_ps(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7));
                _mm256_storeu_ps(to.as_mut_ptr().add(i), eight);
            }
        }
    }
    #[inline(always)]
    unsafe fn nearest_codes(map: &DynamicMap, zero: u8, from: &[f32; 256], divisor: f32, codes: *mut u8) {
        unsafe {
            let (tables, by) = (DecadeTables::of(map.decades()), _mm256_set1_ps(divisor));
            // What packing by halves of a register leaves out of order.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            for i in (0..256).step_by(32) {
                let (mut found, mut unsure) = ([_mm256_setzero_si256(); 4], 0);
                for part in 0..4 {
                    let number = _mm256_loadu_ps(from.as_ptr().add(i + 8 * part));
                    let (codes, doubts) = tables.codes(number, by, zero);
                    found[part] = codes;
                    unsure |= (_mm256_movemask_ps(_mm256_castsi256_ps(doubts)) as u32) << (8 * part);
                }
                let words = [_mm256_packus_epi32(found[0], found[1]), _mm256_packus_epi32(found[2], found[3])];
                let bytes = _mm256_permutevar8x32_epi32(_mm256_packus_epi16(words[0], words[1]), order);
                _mm256_storeu_si256(codes.add(i).cast(), bytes);
                if unsure != 0 {
                    look_up_codes(map, zero, from.as_ptr().add(i), divisor, unsure, codes.add(i));
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Self::V; 16]) {
        unsafe {
            let quads = transposed_quarters!(
                rows,
                8,
                _mm256_setzero_ps,
                _mm256_unpacklo_ps,
                _mm256_unpackhi_ps,
                _mm256_shuffle_ps
            );
            for i in 0..4 {
                rows[i] = _mm256_permute2f128_ps::<0x20>(quads[i], quads[4 + i]);
                rows[4 + i] = _mm256_permute2f128_ps::<0x31>(quads[i], quads[4 + i]);
            }
        }
    }
}
