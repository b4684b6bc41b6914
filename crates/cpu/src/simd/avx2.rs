//! Eight f32 in a 256-bit register, with fused multiply-add.

use std::arch::x86_64::*;

use super::x86::{entries, intrinsics, max4, one_instruction_each, sum4, transposed_quarters};
use super::{Kernel, Outlined, Simd};
use crate::pool::Scratch;

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
