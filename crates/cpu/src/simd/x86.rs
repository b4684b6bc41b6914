//! What the levels with intrinsics have in common, written once: operations that are one instruction each, folds from four
//! lanes on, and the functions that carry a level's target features.
//!
//! Invariant: only names differ between levels, never the order of operations. What takes several instructions, or other
//! ones, stands in the level's own file.

use std::arch::x86_64::*;

/// Sums four lanes, halves folded onto each other.
#[inline(always)]
pub(super) unsafe fn sum4(four: __m128) -> f32 {
    unsafe {
        let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

/// The largest of four lanes.
#[inline(always)]
pub(super) unsafe fn max4(four: __m128) -> f32 {
    unsafe {
        let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
    }
}

/// The functions that carry a level's target features; everything that they call is inlined into them.
macro_rules! entries {
    ($level:ident, $features:literal) => {
        /// Runs one task of a kernel.
        ///
        /// # Safety
        #[doc = concat!("The machine has ", $features, "; see `Kernel::task`.")]
        #[target_feature(enable = $features)]
        pub(crate) unsafe fn task<K: Kernel>(kernel: &K, task: usize, scratch: &mut Scratch) {
            unsafe { kernel.task::<$level>(task, scratch) }
        }

        #[target_feature(enable = $features)]
        #[inline(never)]
        unsafe fn outlined<F: Outlined>(body: F) {
            unsafe { body.call::<$level>() }
        }
    };
}
pub(super) use entries;

/// Functions of `Simd` that are one intrinsic each.
macro_rules! intrinsics {
    ($($name:ident($($x:ident: $t:ty),*) $(-> $result:ty)? = $intrinsic:path;)*) => {
        $(
            #[inline(always)]
            unsafe fn $name($($x: $t),*) $(-> $result)? {
                unsafe { $intrinsic($($x),*) }
            }
        )*
    };
}
pub(super) use intrinsics;

/// Those that read the same at every level but for the width in the intrinsic's name.
macro_rules! one_instruction_each {
    ($set1:ident $loadu:ident $storeu:ident $add:ident $sub:ident $mul:ident $div:ident $sqrt:ident $fmadd:ident $max:ident
     $min:ident) => {
        intrinsics! {
            splat(x: f32) -> Self::V = $set1;
            load(p: *const f32) -> Self::V = $loadu;
            store(p: *mut f32, v: Self::V) = $storeu;
            add(a: Self::V, b: Self::V) -> Self::V = $add;
            sub(a: Self::V, b: Self::V) -> Self::V = $sub;
            mul(a: Self::V, b: Self::V) -> Self::V = $mul;
            div(a: Self::V, b: Self::V) -> Self::V = $div;
            sqrt(a: Self::V) -> Self::V = $sqrt;
            fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V = $fmadd;
            max(a: Self::V, b: Self::V) -> Self::V = $max;
            min(a: Self::V, b: Self::V) -> Self::V = $min;
        }
        #[inline(always)]
        unsafe fn fetch(p: *const u8) {
            unsafe { _mm_prefetch::<_MM_HINT_T1>(p.cast()) }
        }
        #[inline(always)]
        unsafe fn outline<F: Outlined>(body: F) {
            unsafe { outlined(body) }
        }
    };
}
pub(super) use one_instruction_each;

/// The registers after two rounds of a transposition by quarters of 128 bits, `$n` of them: register 4i + c holds column c of
/// each quarter, rows 4i to 4i + 3.
macro_rules! transposed_quarters {
    ($rows:ident, $n:literal, $zero:ident, $unpack_low:ident, $unpack_high:ident, $shuffle:ident) => {{
        let mut pairs = [$zero(); $n];
        for i in 0..$n / 2 {
            pairs[2 * i] = $unpack_low($rows[2 * i], $rows[2 * i + 1]);
            pairs[2 * i + 1] = $unpack_high($rows[2 * i], $rows[2 * i + 1]);
        }
        let mut quads = [$zero(); $n];
        for i in 0..$n / 4 {
            for j in 0..2 {
                let (a, b) = (pairs[4 * i + j], pairs[4 * i + 2 + j]);
                quads[4 * i + 2 * j] = $shuffle::<0b01_00_01_00>(a, b);
                quads[4 * i + 2 * j + 1] = $shuffle::<0b11_10_11_10>(a, b);
            }
        }
        quads
    }};
}
pub(super) use transposed_quarters;
