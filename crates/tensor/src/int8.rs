//! int8: eight bits per element with a scale per row, as bitsandbytes stores the weights of LLM.int8 (Dettmers et al.,
//! 2022).
//!
//! A row (the last axis: the inputs of one output of a linear) has a scale, its largest magnitude `absmax`; an element has
//! the code `round(x * ((1 / absmax) * 127))`, ties to even, and stands for `code * absmax * (1 / 127)`, each step in f32:
//! bitsandbytes' numbers on the CPU (its GPU kernel divides otherwise, which tells where a quotient is half-way). Only
//! weights are stored so: what they are multiplied with keeps its precision, so there are no outliers to split off.
//!
//! A tensor's bytes, as executors hold them: codes as signed bytes, row by row, then one little-endian f32 per row.
//! Invariant: an [`Int8View`] points at exactly the bytes of its elements. Look next at `quantised`.

use crate::Shape;
use std::ops::Range;

/// What a code of 1 stands for, times the row's scale.
pub const STEP: f32 = 1.0 / 127.0;

/// Where the parts of an int8 tensor lie in its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Int8Layout {
    /// One code per element.
    pub codes: Range<usize>,
    /// One f32 per row.
    pub absmax: Range<usize>,
}

impl Int8Layout {
    /// The layout of this shape; `None` if the size does not fit a `usize`.
    pub fn new(shape: &Shape) -> Option<Self> {
        let elements = shape.checked_numel()?;
        let rows = if elements == 0 { 0 } else { elements / shape.last() };
        let end = elements.checked_add(rows.checked_mul(4)?)?;
        Some(Int8Layout { codes: 0..elements, absmax: elements..end })
    }

    /// Size of the tensor in bytes.
    pub fn bytes(&self) -> usize {
        self.absmax.end
    }
}

/// An int8 tensor in memory, to be read.
#[derive(Debug, Clone, Copy)]
pub struct Int8View<'a> {
    /// One code per element.
    pub codes: &'a [i8],
    absmax: &'a [[u8; 4]],
    width: usize,
}

impl<'a> Int8View<'a> {
    /// The tensor of this shape in these bytes. Panics if their number is not the layout's.
    pub fn new(shape: &Shape, bytes: &'a [u8]) -> Self {
        let layout = Int8Layout::new(shape).expect("the size of a tensor in memory");
        assert_eq!(bytes.len(), layout.bytes(), "int8: shape {shape} and the bytes differ");
        let codes = bytemuck::cast_slice(&bytes[layout.codes]);
        Int8View { codes, absmax: bytes[layout.absmax].as_chunks::<4>().0, width: shape.last() }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.codes.len()
    }

    /// Elements of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The scale of a row.
    #[inline]
    pub fn absmax(&self, row: usize) -> f32 {
        f32::from_le_bytes(self.absmax[row])
    }

    /// Decodes the elements from `first` on. Panics beyond the end.
    pub fn decode(&self, first: usize, to: &mut [f32]) {
        let codes = &self.codes[first..first + to.len()];
        for (index, (number, &code)) in to.iter_mut().zip(codes).enumerate() {
            *number = f32::from(code) * self.absmax((first + index) / self.width) * STEP;
        }
    }
}

/// 1.5 * 2^23: a sum with it has no bits for a fraction, so it is rounded to nearest, ties to even, and its last byte is the
/// integer in two's complement.
const MAGIC: f32 = 12_582_912.0;

/// Quantises a row with this largest magnitude, which is its scale.
pub(crate) fn quantise_row(values: &[f32], absmax: f32, codes: &mut [u8]) -> f32 {
    let factor = 1.0 / absmax * 127.0;
    // Of zeros, or of numbers whose reciprocals overflow: bitsandbytes' zeros, too.
    let factor = if factor.is_finite() { factor } else { 0.0 };
    for (code, value) in codes.iter_mut().zip(values) {
        *code = (value * factor + MAGIC).to_bits() as u8;
    }
    absmax
}
