//! Sixteen f32 in a 512-bit register.

use std::arch::x86_64::*;

use super::x86::{entries, intrinsics, max4, one_instruction_each, sum4, transposed_quarters};
use super::{Kernel, Outlined, Simd};
use crate::pool::Scratch;
use remat_tensor::DynamicMap;

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

/// `with` where a bit of the index is set, else `without`.
#[inline(always)]
unsafe fn blend(index: __m512i, bit: i32, without: __m512, with: __m512) -> __m512 {
    unsafe { _mm512_mask_blend_ps(_mm512_test_epi32_mask(index, _mm512_set1_epi32(bit)), without, with) }
}

/// A table in sixteen registers, to be loaded once for many look-ups.
#[inline(always)]
unsafe fn registers(table: &[f32; 256]) -> [__m512; 16] {
    unsafe { std::array::from_fn(|part| _mm512_loadu_ps(table.as_ptr().add(16 * part))) }
}

/// Of 128 numbers in eight registers, those that the lowest seven bits of an index name.
#[inline(always)]
unsafe fn of_128(t: &[__m512; 16], first: usize, index: __m512i) -> __m512 {
    unsafe { blend(index, 64, of_64(t, first, index), of_64(t, first + 4, index)) }
}

/// Of 64 numbers in four registers, by the lowest six bits.
#[inline(always)]
unsafe fn of_64(t: &[__m512; 16], first: usize, index: __m512i) -> __m512 {
    unsafe { blend(index, 32, of_32(t, first, index), of_32(t, first + 2, index)) }
}

/// Of 32 numbers in two registers, by the lowest five bits.
#[inline(always)]
unsafe fn of_32(t: &[__m512; 16], first: usize, index: __m512i) -> __m512 {
    unsafe { _mm512_permutex2var_ps(t[first], index, t[first + 1]) }
}

/// The next node of a search: the right child where the boundary lies below x.
#[inline(always)]
unsafe fn child(node: __m512i, boundary: __m512, x: __m512) -> __m512i {
    unsafe {
        let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(boundary, x);
        let left = _mm512_add_epi32(node, node);
        _mm512_mask_add_epi32(left, below, left, _mm512_set1_epi32(1))
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
    unsafe fn look_up_numbers(table: &[f32; 256], codes: *const u8, to: &mut [f32; 256]) {
        unsafe {
            let t = registers(table);
            for i in (0..256).step_by(16) {
                let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.add(i).cast()));
                let numbers = blend(codes, 128, of_128(&t, 0, codes), of_128(&t, 8, codes));
                _mm512_storeu_ps(to.as_mut_ptr().add(i), numbers);
            }
        }
    }
    #[inline(always)]
    unsafe fn nearest_codes(map: &DynamicMap, zero: u8, from: &[f32; 256], divisor: f32, codes: *mut u8) {
        unsafe {
            let (t, divisor) = (registers(map.search_tree()), _mm512_set1_ps(divisor));
            let lowest = _mm512_set1_epi32(256 + i32::from(zero).max(1));
            for i in (0..256).step_by(16) {
                let number = _mm512_loadu_ps(from.as_ptr().add(i));
                let x = _mm512_div_ps(number, divisor);
                // Level by level: nodes 1, 2 and 3, 4 to 7, 8 to 15 lie in the first register, 16 to 31 in the next.
                let mut node = _mm512_set1_epi32(1);
                for _ in 0..4 {
                    node = child(node, _mm512_permutexvar_ps(node, t[0]), x);
                }
                node = child(node, _mm512_permutexvar_ps(node, t[1]), x);
                node = child(node, of_32(&t, 2, node), x);
                node = child(node, of_64(&t, 4, node), x);
                node = child(node, of_128(&t, 8, node), x);
                let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(number, _mm512_setzero_ps());
                let loses_sign = _mm512_mask_cmpge_epi32_mask(negative, node, lowest);
                let node = _mm512_mask_sub_epi32(node, loses_sign, node, _mm512_set1_epi32(1));
                // The lowest byte of 256 and more is the code.
                _mm_storeu_si128(codes.add(i).cast(), _mm512_cvtepi32_epi8(node));
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
