//! Eight f32 in an array: runs anywhere, one rounding per multiplication and addition.

use super::{Outlined, Simd};

/// The level without intrinsics.
#[derive(Clone, Copy)]
pub(crate) struct Portable;

const L: usize = 8;

macro_rules! lanewise {
    ($($x:ident),* => $e:expr) => {{
        let mut out = [0.0; L];
        for i in 0..L {
            $(let $x = $x[i];)*
            out[i] = $e;
        }
        out
    }};
}

impl Simd for Portable {
    type V = [f32; L];
    const LANES: usize = L;
    const TILE_ROWS: usize = 2;

    #[inline(always)]
    unsafe fn splat(x: f32) -> Self::V {
        [x; L]
    }
    #[inline(always)]
    unsafe fn load(p: *const f32) -> Self::V {
        unsafe { p.cast::<[f32; L]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_partial(p: *const f32, lanes: usize) -> Self::V {
        let mut out = [0.0; L];
        for (i, x) in out.iter_mut().enumerate().take(lanes) {
            *x = unsafe { *p.add(i) };
        }
        out
    }
    #[inline(always)]
    unsafe fn store(p: *mut f32, v: Self::V) {
        unsafe { p.cast::<[f32; L]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_partial(p: *mut f32, v: Self::V, lanes: usize) {
        for (i, x) in v.iter().enumerate().take(lanes) {
            unsafe { *p.add(i) = *x };
        }
    }
    #[inline(always)]
    unsafe fn load_bf16(p: *const u16) -> Self::V {
        let words = unsafe { p.cast::<[u16; L]>().read_unaligned() };
        words.map(|word| f32::from_bits(u32::from(word) << 16))
    }
    #[inline(always)]
    unsafe fn store_bf16(p: *mut u16, v: Self::V) {
        let words = v.map(|x| half::bf16::from_f32(x).to_bits());
        unsafe { p.cast::<[u16; L]>().write_unaligned(words) }
    }
    #[inline(always)]
    unsafe fn load_i8(p: *const i8) -> Self::V {
        unsafe { p.cast::<[i8; L]>().read() }.map(f32::from)
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, b => a + b)
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, b => a - b)
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, b => a * b)
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, b => a / b)
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        lanewise!(a => a.sqrt())
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        lanewise!(a, b, c => a * b + c)
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, b => if a > b { a } else { b })
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        lanewise!(a, b => if a < b { a } else { b })
    }
    #[inline(always)]
    unsafe fn select_ge(a: Self::V, b: Self::V, yes: Self::V, no: Self::V) -> Self::V {
        lanewise!(a, b, yes, no => if a >= b { yes } else { no })
    }
    #[inline(always)]
    unsafe fn round(a: Self::V) -> Self::V {
        // Adding 1.5 * 2^23 leaves no bits for a fraction.
        const MAGIC: f32 = 12_582_912.0;
        lanewise!(a => (a + MAGIC) - MAGIC)
    }
    #[inline(always)]
    unsafe fn exp2_integral(n: Self::V) -> Self::V {
        lanewise!(n => f32::from_bits((((n as i32) + 127) as u32) << 23))
    }
    #[inline(always)]
    unsafe fn sum(a: Self::V) -> f32 {
        let [a0, a1, a2, a3, a4, a5, a6, a7] = a;
        ((a0 + a4) + (a2 + a6)) + ((a1 + a5) + (a3 + a7))
    }
    #[inline(always)]
    unsafe fn fold_max(a: Self::V) -> f32 {
        a.into_iter().fold(f32::NEG_INFINITY, |m, x| if x > m { x } else { m })
    }
    #[inline(always)]
    unsafe fn transpose(rows: &mut [Self::V; 16]) {
        for i in 0..L {
            for j in 0..i {
                let other = rows[j][i];
                rows[j][i] = rows[i][j];
                rows[i][j] = other;
            }
        }
    }
    #[inline]
    unsafe fn outline<F: Outlined>(body: F) {
        unsafe { body.call::<Self>() }
    }
}
