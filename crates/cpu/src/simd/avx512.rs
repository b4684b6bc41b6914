//! Sixteen f32 in a 512-bit register.

use std::arch::x86_64::*;

use super::x86::{entries, intrinsics, max4, one_instruction_each, sum4, transposed_quarters};
use super::{Kernel, Outlined, Simd, nearest_code};
use crate::pool::Scratch;
use remat_tensor::DynamicMap;
use remat_tensor::decades::{Decades, LEAST_MAGNITUDE, PLACE_BITS, UNSURE};

/// AVX-512 F, BW, DQ and VL.
#[derive(Clone, Copy)]
pub(crate) struct Avx512;

entries!(Avx512, "avx512f,avx512bw,avx512dq,avx512vl,avx2,fma");

#[inline(always)]
fn mask(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

/// The 32 codes of 16 bytes, one per byte, in order.
#[inline(always)]
unsafe fn split(codes: *const u8) -> (__m128i, __m128i) {
    unsafe {
        let (bytes, four_bits) = (_mm_loadu_si128(codes.cast()), _mm_set1_epi8(15));
        let (high, low) = (_mm_and_si128(_mm_srli_epi16::<4>(bytes), four_bits), _mm_and_si128(bytes, four_bits));
        (_mm_unpacklo_epi8(high, low), _mm_unpackhi_epi8(high, low))
    }
}

/// A table of 16-bit words in eight registers.
#[inline(always)]
unsafe fn registers(table: &[u16; 256]) -> [__m512i; 8] {
    unsafe { std::array::from_fn(|part| _mm512_loadu_si512(table.as_ptr().add(32 * part).cast())) }
}

/// The words of 32 indices; `seventh` and `eighth` say which of those have these bits set.
#[inline(always)]
unsafe fn words(t: &[__m512i; 8], indices: __m512i, seventh: __mmask32, eighth: __mmask32) -> __m512i {
    unsafe {
        let (first, second) = (words_of_128(t, 0, indices, seventh), words_of_128(t, 4, indices, seventh));
        _mm512_mask_blend_epi16(eighth, first, second)
    }
}

/// The same of half a table.
#[inline(always)]
unsafe fn words_of_128(t: &[__m512i; 8], from: usize, indices: __m512i, seventh: __mmask32) -> __m512i {
    unsafe {
        let first = _mm512_permutex2var_epi16(t[from], indices, t[from + 1]);
        let second = _mm512_permutex2var_epi16(t[from + 2], indices, t[from + 3]);
        _mm512_mask_blend_epi16(seventh, first, second)
    }
}

/// A table of 32 numbers in two registers.
#[inline(always)]
unsafe fn pair(table: &[u32; 32]) -> [__m512i; 2] {
    let at = table.as_ptr();
    unsafe { [_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(16).cast())] }
}

/// The tables of a map's decades in registers.
struct DecadeTables {
    edges: [__m512i; 2],
    first: [__m512i; 2],
    scale: __m512,
    shift: __m512,
    last: __m512i,
}

impl DecadeTables {
    #[inline(always)]
    unsafe fn of(decades: &Decades) -> Self {
        unsafe {
            DecadeTables {
                edges: pair(&decades.edges),
                first: pair(&decades.first),
                scale: _mm512_loadu_ps(decades.scale.as_ptr()),
                shift: _mm512_loadu_ps(decades.shift.as_ptr()),
                last: _mm512_loadu_si512(decades.last.as_ptr().cast()),
            }
        }
    }

    /// The places of sixteen numbers among those of their sign, and which of them are not sure.
    #[inline(always)]
    unsafe fn places(&self, x: __m512) -> (__m512i, __mmask16) {
        unsafe {
            let bits = _mm512_castps_si512(x);
            let magnitude = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fff_ffff));
            let magnitude = _mm512_max_epi32(magnitude, _mm512_set1_epi32(LEAST_MAGNITUDE.to_bits() as i32));
            // Permutations look at the lowest five bits of an index alone.
            let octave = _mm512_srli_epi32::<23>(magnitude);
            let edge = _mm512_permutex2var_epi32(self.edges[0], octave, self.edges[1]);
            // Of two equally near numbers the lower one: of negative ones that is the one further from 0.
            let compared = _mm512_sub_epi32(magnitude, _mm512_srai_epi32::<31>(bits));
            let beyond = _mm512_cmpgt_epi32_mask(compared, edge);
            let decade = _mm512_permutex2var_epi32(self.first[0], octave, self.first[1]);
            let decade = _mm512_mask_add_epi32(decade, beyond, decade, _mm512_set1_epi32(1));
            let (scale, shift) = (_mm512_permutexvar_ps(decade, self.scale), _mm512_permutexvar_ps(decade, self.shift));
            let units = _mm512_cvtps_epi32(_mm512_fmadd_ps(_mm512_castsi512_ps(magnitude), scale, shift));
            let place = _mm512_srli_epi32::<PLACE_BITS>(units);
            let place = _mm512_min_epi32(place, _mm512_permutexvar_epi32(decade, self.last));
            (place, _mm512_testn_epi32_mask(units, _mm512_set1_epi32(UNSURE as i32)))
        }
    }

    /// The codes of sixteen numbers divided by one, and which of them are not sure. `zero` is the code of 0.
    #[inline(always)]
    unsafe fn codes(&self, number: __m512, by: __m512, zero: u8) -> (__m512i, __mmask16) {
        unsafe {
            if zero == 0 {
                // A map without negative numbers: codes are places, and what is below 0 counts as 0.
                return self.places(_mm512_div_ps(_mm512_max_ps(number, _mm512_setzero_ps()), by));
            }
            let (zeros, one) = (_mm512_set1_epi32(i32::from(zero)), _mm512_set1_epi32(1));
            let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(number, _mm512_setzero_ps());
            let (place, unsure) = self.places(_mm512_div_ps(number, by));
            // A number below 0 keeps its sign, and the map may have none as far below 0 as 1.
            let place = _mm512_mask_max_epi32(place, negative, place, one);
            let place = _mm512_mask_min_epi32(place, negative, place, zeros);
            (_mm512_mask_sub_epi32(_mm512_add_epi32(zeros, place), negative, zeros, place), unsure)
        }
    }
}

/// The codes of some of sixteen numbers, one by one.
#[cold]
#[inline(never)]
unsafe fn look_up_codes(map: &DynamicMap, zero: u8, from: *const f32, divisor: f32, mut which: u16, codes: *mut u8) {
    while which != 0 {
        let at = which.trailing_zeros() as usize;
        unsafe { *codes.add(at) = nearest_code(map, zero, *from.add(at), divisor) };
        which &= which - 1;
    }
}

impl Simd for Avx512 {
    type V = __m512;
    const LANES: usize = 16;
    const TILE_ROWS: usize = 14;

    one_instruction_each!(
        _mm512_set1_ps _mm512_loadu_ps _mm512_storeu_ps _mm512_add_ps _mm512_sub_ps
        _mm512_mul_ps _mm512_div_ps _mm512_sqrt_ps _mm512_fmadd_ps _mm512_max_ps _mm512_min_ps
    );

    #[inline(always)]
    unsafe fn load_partial(p: *const f32, lanes: usize) -> Self::V {
        unsafe { _mm512_maskz_loadu_ps(mask(lanes), p) }
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: Self::V, lanes: usize) {
        unsafe { _mm512_mask_storeu_ps(p, mask(lanes), v) }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        unsafe {
            let words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(p.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(words))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V) {
        unsafe {
            let bits = _mm512_castps_si512(v);
            // In integers, not by the bf16 instruction: that one flushes subnormals, and not every machine has it.
            let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
            let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
            let nan = _mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v);
            let kept = _mm512_mask_or_epi32(rounded, nan, bits, _mm512_set1_epi32(0x0040_0000));
            _mm256_storeu_si256(p.cast(), _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(kept)));
        }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(p.cast()))) }
    }
    #[inline(always)]
    unsafe fn select_ge(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        unsafe { _mm512_mask_blend_ps(_mm512_cmp_ps_mask::<_CMP_GE_OQ>(a, b), no, yes) }
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        unsafe { _mm512_roundscale_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(a) }
    }
    #[inline(always)]
    unsafe fn exp2_integral(n: Self::V) -> Self::V {
        unsafe {
            let exponent = _mm512_add_epi32(_mm512_cvtps_epi32(n), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(exponent))
        }
    }
    #[inline(always)]
    unsafe fn scale_exp2(p: Self::V, n: Self::V) -> Self::V {
        unsafe { _mm512_scalef_ps(p, n) }
    }
    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            sum4(four)
        }
    }
    #[inline(always)]
    unsafe fn fold_max(a: Self::V) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps::<1>(a));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            max4(four)
        }
    }
    #[inline(always)]
    unsafe fn look_up_words(table: &[u32; 16], codes: *const u8, to: *mut u32) {
        unsafe {
            let table = _mm512_loadu_si512(table.as_ptr().cast());
            for part in 0..2 {
                let (first, second) = split(codes.add(16 * part));
                for (half, bytes) in [first, second].into_iter().enumerate() {
                    let words = _mm512_permutexvar_epi32(_mm512_cvtepu8_epi32(bytes), table);
                    _mm512_storeu_si512(to.add(32 * part + 16 * half).cast(), words);
                }
            }
        }
    }
    #[inline(always)]
    unsafe fn look_up_halves(table: &[u16; 16], codes: *const u8, to: *mut u16) {
        unsafe {
            let table = _mm512_castsi256_si512(_mm256_loadu_si256(table.as_ptr().cast()));
            for part in 0..2 {
                let (first, second) = split(codes.add(16 * part));
                let indices = _mm512_cvtepu8_epi16(_mm256_set_m128i(second, first));
                _mm512_storeu_si512(to.add(32 * part).cast(), _mm512_permutexvar_epi16(indices, table));
            }
        }
    }
    #[inline(always)]
    unsafe fn look_up_numbers(map: &DynamicMap, codes: *const u8, to: &mut [f32; 256]) {
        unsafe {
            // Two words for each number: one permutation looks 32 of them up, and unpacking puts them together.
            let [lower, upper] = map.halves();
            let (lower, upper) = (registers(lower), registers(upper));
            // What unpacking leaves in order: numbers 0 to 15 come from the first halves of each quarter.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            for i in (0..256).step_by(32) {
                let bytes = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(codes.add(i).cast()), order);
                let indices = _mm512_cvtepu8_epi16(bytes);
                let seventh = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(64));
                let eighth = _mm512_test_epi16_mask(indices, _mm512_set1_epi16(128));
                let (lower, upper) = (words(&lower, indices, seventh, eighth), words(&upper, indices, seventh, eighth));
                let to = to.as_mut_ptr().add(i);
                _mm512_storeu_si512(to.cast(), _mm512_unpacklo_epi16(lower, upper));
                _mm512_storeu_si512(to.add(16).cast(), _mm512_unpackhi_epi16(lower, upper));
            }
        }
    }
    #[inline(always)]
    unsafe fn nearest_codes(map: &DynamicMap, zero: u8, from: &[f32; 256], divisor: f32, codes: *mut u8) {
        unsafe {
            let (tables, by) = (DecadeTables::of(map.decades()), _mm512_set1_ps(divisor));
            for i in (0..256).step_by(16) {
                let number = _mm512_loadu_ps(from.as_ptr().add(i));
                let (code, unsure) = tables.codes(number, by, zero);
                _mm_storeu_si128(codes.add(i).cast(), _mm512_cvtepi32_epi8(code));
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
                16,
                _mm512_setzero_ps,
                _mm512_unpacklo_ps,
                _mm512_unpackhi_ps,
                _mm512_shuffle_ps
            );
            for c in 0..4 {
                let low = _mm512_shuffle_f32x4::<0b10_00_10_00>(quads[c], quads[4 + c]);
                let high = _mm512_shuffle_f32x4::<0b11_01_11_01>(quads[c], quads[4 + c]);
                let low2 = _mm512_shuffle_f32x4::<0b10_00_10_00>(quads[8 + c], quads[12 + c]);
                let high2 = _mm512_shuffle_f32x4::<0b11_01_11_01>(quads[8 + c], quads[12 + c]);
                rows[c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(low, low2);
                rows[4 + c] = _mm512_shuffle_f32x4::<0b10_00_10_00>(high, high2);
                rows[8 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(low, low2);
                rows[12 + c] = _mm512_shuffle_f32x4::<0b11_01_11_01>(high, high2);
            }
        }
    }
}
