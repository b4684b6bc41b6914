//! Element types of GGUF: how large they are, and how numbers become those that are written.
//!
//! Q8_0 is ggml's: blocks of 32 elements of a row, a scale d = max|x| / 127 in f16, then eight bits each, x/d rounded to the
//! nearest, halves away from zero; x/d is x times 1/d, in f32, as ggml's reference (`quantize_row_q8_0_ref`) has it.
//! Invariant: a number that the type cannot hold is an error, never an infinity.

use half::{bf16, f16};

/// Element types by number: name, elements of a block, bytes of a block.
pub(super) const TYPES: [(u32, &str, u64, u64); 33] = [
    (0, "F32", 1, 4),
    (1, "F16", 1, 2),
    (2, "Q4_0", 32, 18),
    (3, "Q4_1", 32, 20),
    (6, "Q5_0", 32, 22),
    (7, "Q5_1", 32, 24),
    (8, "Q8_0", 32, 34),
    (9, "Q8_1", 32, 36),
    (10, "Q2_K", 256, 84),
    (11, "Q3_K", 256, 110),
    (12, "Q4_K", 256, 144),
    (13, "Q5_K", 256, 176),
    (14, "Q6_K", 256, 210),
    (15, "Q8_K", 256, 292),
    (16, "IQ2_XXS", 256, 66),
    (17, "IQ2_XS", 256, 74),
    (18, "IQ3_XXS", 256, 98),
    (19, "IQ1_S", 256, 50),
    (20, "IQ4_NL", 32, 18),
    (21, "IQ3_S", 256, 110),
    (22, "IQ2_S", 256, 82),
    (23, "IQ4_XS", 256, 136),
    (24, "I8", 1, 1),
    (25, "I16", 1, 2),
    (26, "I32", 1, 4),
    (27, "I64", 1, 8),
    (28, "F64", 1, 8),
    (29, "IQ1_M", 256, 56),
    (30, "BF16", 1, 2),
    (34, "TQ1_0", 256, 54),
    (35, "TQ2_0", 256, 66),
    (39, "MXFP4", 32, 17),
    (40, "NVFP4", 64, 36),
];

/// Elements that share a scale in Q8_0.
const BLOCK: usize = 32;

/// An element type that is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GgufElement {
    /// 32 bits.
    F32,
    /// 16 bits, IEEE's.
    F16,
    /// 16 bits, the upper half of f32.
    Bf16,
    /// Eight bits and a scale for 32 elements of a row: 8.5 bits each.
    Q8_0,
}

/// A number that an element type cannot hold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OutOfRange {
    /// Where it stands among the numbers that were given.
    pub index: usize,
    /// The number.
    pub value: f32,
}

impl GgufElement {
    /// Its number in a file.
    pub(super) fn number(self) -> u32 {
        let found = TYPES.iter().find(|(_, name, ..)| *name == self.name());
        found.map(|&(number, ..)| number).expect("a type of the table")
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            GgufElement::F32 => "F32",
            GgufElement::F16 => "F16",
            GgufElement::Bf16 => "BF16",
            GgufElement::Q8_0 => "Q8_0",
        }
    }

    /// `general.file_type` of a file whose large tensors are of this type.
    pub fn file_type(self) -> u32 {
        match self {
            GgufElement::F32 => 0,
            GgufElement::F16 => 1,
            GgufElement::Q8_0 => 7,
            GgufElement::Bf16 => 32,
        }
    }

    /// The type that rows of so many elements are written in where this one is wanted: f16 where they do not fill blocks.
    #[must_use]
    pub fn of_rows(self, elements: usize) -> Self {
        match self {
            GgufElement::Q8_0 if !elements.is_multiple_of(BLOCK) => GgufElement::F16,
            other => other,
        }
    }

    /// Bytes of so many elements, which fill blocks; `None` beyond 64 bits.
    pub fn bytes(self, elements: u64) -> Option<u64> {
        match self {
            GgufElement::F32 => elements.checked_mul(4),
            GgufElement::F16 | GgufElement::Bf16 => elements.checked_mul(2),
            GgufElement::Q8_0 => (elements / BLOCK as u64).checked_mul(2 + BLOCK as u64),
        }
    }

    /// Appends numbers to bytes; of Q8_0, whole blocks.
    ///
    /// # Errors
    /// The first number that does not fit.
    pub fn encode(self, numbers: &[f32], bytes: &mut Vec<u8>) -> Result<(), OutOfRange> {
        let narrow = |bits: u16, is_finite: bool| if is_finite { Some(bits) } else { None };
        match self {
            GgufElement::F32 => each(numbers, |x| x.is_finite().then_some(x.to_le_bytes()), bytes),
            GgufElement::F16 => each(
                numbers,
                |x| {
                    let rounded = f16::from_f32(x);
                    narrow(rounded.to_bits(), rounded.is_finite()).map(u16::to_le_bytes)
                },
                bytes,
            ),
            GgufElement::Bf16 => each(
                numbers,
                |x| {
                    let rounded = bf16::from_f32(x);
                    narrow(rounded.to_bits(), rounded.is_finite()).map(u16::to_le_bytes)
                },
                bytes,
            ),
            GgufElement::Q8_0 => {
                for (number, block) in numbers.chunks(BLOCK).enumerate() {
                    q8_0(block, bytes).map_err(|fault| OutOfRange { index: number * BLOCK + fault.index, ..fault })?;
                }
                Ok(())
            }
        }
    }
}

fn each<const N: usize>(
    numbers: &[f32],
    one: impl Fn(f32) -> Option<[u8; N]>,
    bytes: &mut Vec<u8>,
) -> Result<(), OutOfRange> {
    bytes.reserve(numbers.len() * N);
    for (index, &value) in numbers.iter().enumerate() {
        bytes.extend(one(value).ok_or(OutOfRange { index, value })?);
    }
    Ok(())
}

/// One block.
fn q8_0(block: &[f32], bytes: &mut Vec<u8>) -> Result<(), OutOfRange> {
    let largest = block.iter().fold(0.0_f32, |largest, x| largest.max(x.abs()));
    let scale = largest / 127.0;
    let stored = f16::from_f32(scale);
    // A NaN is passed over by the maximum, so each number is asked.
    let bad = block.iter().position(|x| !x.is_finite() || (!stored.is_finite() && x.abs() == largest));
    if let Some(index) = bad {
        return Err(OutOfRange { index, value: block[index] });
    }
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    bytes.extend(stored.to_le_bytes());
    bytes.extend(block.iter().map(|x| (x * inverse).round() as i8 as u8));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(element: GgufElement, numbers: &[f32]) -> Vec<u8> {
        let mut bytes = Vec::new();
        element.encode(numbers, &mut bytes).unwrap_or_else(|fault| panic!("{fault:?}"));
        bytes
    }

    #[test]
    fn a_block_of_q8_0_has_its_scale_and_rounds_halves_away_from_zero() {
        // d is exactly 1, so that the numbers are what is rounded.
        let mut block = [0.0; BLOCK];
        block[..6].copy_from_slice(&[127.0, 0.5, -0.5, 1.5, -2.5, 0.49]);
        let bytes = encoded(GgufElement::Q8_0, &block);
        assert_eq!(bytes.len(), 34);
        assert_eq!(f16::from_le_bytes([bytes[0], bytes[1]]).to_f32(), 1.0);
        let codes: Vec<i8> = bytes[2..8].iter().map(|&byte| byte as i8).collect();
        assert_eq!(codes, [127, 1, -1, 2, -3, 0]);
        assert_eq!(encoded(GgufElement::Q8_0, &[0.0; 64]), [0; 68], "zeros have no scale");
        assert_eq!(GgufElement::Q8_0.bytes(64), Some(68));
    }

    #[test]
    fn what_does_not_fit_is_named_and_rows_that_fill_no_blocks_are_f16() {
        let fault =
            |element: GgufElement, numbers: &[f32]| element.encode(numbers, &mut Vec::new()).expect_err("refused");
        assert_eq!(fault(GgufElement::F16, &[1.0, -70000.0]), OutOfRange { index: 1, value: -70000.0 });
        assert_eq!(fault(GgufElement::Bf16, &[3.4e38]).index, 0);
        assert!(fault(GgufElement::F32, &[f32::NAN]).value.is_nan());
        let mut large = [1.0; 64];
        large[40] = 9e6;
        assert_eq!(fault(GgufElement::Q8_0, &large), OutOfRange { index: 40, value: 9e6 });
        assert_eq!(GgufElement::Q8_0.of_rows(48), GgufElement::F16);
        assert_eq!(GgufElement::Q8_0.of_rows(64), GgufElement::Q8_0);
        for element in [GgufElement::F32, GgufElement::F16, GgufElement::Bf16, GgufElement::Q8_0] {
            let size = encoded(element, &[0.25; 64]).len() as u64;
            assert_eq!(element.bytes(64), Some(size), "{}", element.name());
        }
    }
}
