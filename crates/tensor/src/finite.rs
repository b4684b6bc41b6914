//! Looks for elements that are infinite or no number, in a tensor's bytes.
//!
//! Invariant: one pass at the speed of memory, nothing allocated; types that have no such elements are passed over. The
//! test is on the exponent: all of its bits are set in infinities and NaNs, and in nothing else.

use crate::{DType, NotFinite};
use half::{bf16, f16};

/// Bytes that are looked at together before it is asked where among them a fault is.
const BLOCK_BYTES: usize = 1 << 12;

/// The first element that is not finite, of whole little-endian elements; `None` if all are.
pub fn first_not_finite(dtype: DType, bytes: &[u8]) -> Option<NotFinite> {
    match dtype {
        DType::F32 => first(bytes, |bits: [u8; 4]| f32::from_le_bytes(bits)),
        DType::BF16 => first(bytes, |bits: [u8; 2]| bf16::from_le_bytes(bits).to_f32()),
        DType::F16 => first(bytes, |bits: [u8; 2]| f16::from_le_bytes(bits).to_f32()),
        DType::I32 | DType::U32 | DType::U8 | DType::I8 | DType::Nf4 | DType::Nf4Single | DType::Int8 => None,
    }
}

fn first<const N: usize>(bytes: &[u8], value: impl Fn([u8; N]) -> f32) -> Option<NotFinite> {
    let is_bad = |element: &[u8; N]| !value(*element).is_finite();
    // Without an early end inside a block, the loop over it needs no branch.
    let block = bytes.chunks(BLOCK_BYTES).position(|block| {
        let elements = block.as_chunks::<N>().0;
        elements.iter().fold(false, |bad, element| bad | is_bad(element))
    })?;
    let elements = bytes[block * BLOCK_BYTES..].as_chunks::<N>().0;
    let index = elements.iter().position(is_bad)?;
    Some(NotFinite { index: block * BLOCK_BYTES / N + index, value: value(elements[index]) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_found_wherever_it_is() {
        let clean: Vec<f32> = (0..5000).map(|i| i as f32 - f32::MAX).chain([f32::MIN, f32::MAX, -0.0, 1e-45]).collect();
        let bytes = |numbers: &[f32]| numbers.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
        assert_eq!(first_not_finite(DType::F32, &bytes(&clean)), None);
        for (index, value) in [(0, f32::NAN), (1023, f32::INFINITY), (1024, f32::NEG_INFINITY), (5003, -f32::NAN)] {
            let mut dirty = clean.clone();
            dirty[index] = value;
            dirty[5003] = if index == 5003 { value } else { f32::NAN };
            let found = first_not_finite(DType::F32, &bytes(&dirty)).expect("one is there");
            assert_eq!((found.index, found.value.to_bits()), (index, value.to_bits()));
        }
    }

    #[test]
    fn sixteen_bits_have_them_too_and_codes_do_not() {
        for (dtype, bad, good) in [(DType::BF16, [0x80, 0x7f], [0x7f, 0x7f]), (DType::F16, [0, 0x7c], [0xff, 0x7b])] {
            assert_eq!(first_not_finite(dtype, &[good, good].concat()), None);
            let found = first_not_finite(dtype, &[good, bad].concat()).expect("one is there");
            assert_eq!((found.index, found.value), (1, f32::INFINITY));
        }
        for dtype in [DType::U8, DType::I32, DType::Nf4] {
            assert_eq!(first_not_finite(dtype, &[0xff; 64]), None);
        }
        assert_eq!(first_not_finite(DType::F32, &[]), None);
    }
}
