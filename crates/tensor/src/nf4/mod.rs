//! NF4: four bits per element, as bitsandbytes stores it (Dettmers et al., *QLoRA*, 2023).
//!
//! Elements are taken row by row in blocks of 64; blocks run across rows and the last may be short. A block has a scale
//! (its largest magnitude, `absmax`) and each element the index of one of 16 numbers in [-1, 1], so that
//! `element = map[code] * absmax`, in f32. Under double quantisation the scales are 8-bit in turn:
//! `absmax = nested_map[q] * nested_absmax[block / 256] + offset`, each step rounded to f32.
//!
//! A tensor's bytes, as executors hold them: codes (the first of two elements in the high nibble), scales (u8 or f32 per
//! block), then `nested_absmax`, `nested_map` and `offset` if the scales are 8-bit, then `map`. All numbers are
//! little-endian f32 at any alignment. The maps travel with the tensor, since a file may bring its own.
//! Invariant: an [`Nf4View`] points at exactly the bytes of its elements. Look next at `quantise.rs` and `scales.rs`.

mod mean;
mod quantise;
mod scales;

pub(crate) use quantise::{quantise_block, write_scales};
pub use scales::{NESTED_BLOCK, nested_map};

use std::ops::Range;

/// Elements that share a scale.
pub const BLOCK: usize = 64;

/// The numbers that codes stand for: quantiles of the normal distribution, scaled to [-1, 1].
pub const MAP: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// How the scales of an NF4 tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScaleKind {
    /// f32: 4.5 bits per element.
    Single,
    /// 8-bit with nested scales: 4.127 bits per element.
    Nested,
}

/// Where the parts of an NF4 tensor lie in its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nf4Layout {
    /// Number of elements.
    pub elements: usize,
    /// How scales are stored.
    pub kind: ScaleKind,
    /// Two codes per byte.
    pub codes: Range<usize>,
    /// One scale per block: u8 or f32.
    pub absmax: Range<usize>,
    /// One f32 per 256 scales; empty for single scales.
    pub nested_absmax: Range<usize>,
    /// 256 f32; empty for single scales.
    pub nested_map: Range<usize>,
    /// One f32; empty for single scales.
    pub offset: Range<usize>,
    /// 16 f32.
    pub map: Range<usize>,
}

impl Nf4Layout {
    /// The layout of so many elements; `None` if the size does not fit a `usize`.
    pub fn new(elements: usize, kind: ScaleKind) -> Option<Self> {
        let blocks = elements.div_ceil(BLOCK);
        let nested = usize::from(kind == ScaleKind::Nested);
        let scale_bytes = if kind == ScaleKind::Nested { 1 } else { 4 };
        let mut end = 0usize;
        let mut part = |bytes: usize| {
            let start = end;
            end = end.checked_add(bytes)?;
            Some(start..end)
        };
        Some(Nf4Layout {
            elements,
            kind,
            codes: part(elements.div_ceil(2))?,
            absmax: part(blocks.checked_mul(scale_bytes)?)?,
            nested_absmax: part(nested * 4 * blocks.div_ceil(NESTED_BLOCK))?,
            nested_map: part(nested * 4 * 256)?,
            offset: part(nested * 4)?,
            map: part(4 * MAP.len())?,
        })
    }

    /// Size of the tensor in bytes.
    pub fn bytes(&self) -> usize {
        self.map.end
    }

    /// Number of blocks.
    pub fn blocks(&self) -> usize {
        self.elements.div_ceil(BLOCK)
    }
}

/// An NF4 tensor in memory, to be read.
#[derive(Debug, Clone, Copy)]
pub struct Nf4View<'a> {
    elements: usize,
    /// Two codes per byte, the first in the high nibble.
    pub codes: &'a [u8],
    /// What each code stands for, times the block's scale.
    pub map: [f32; 16],
    scales: Scales<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Scales<'a> {
    Single(&'a [[u8; 4]]),
    Nested { absmax: &'a [u8], nested_absmax: &'a [[u8; 4]], nested_map: &'a [[u8; 4]], offset: f32 },
}

impl<'a> Nf4View<'a> {
    /// The tensor of so many elements in these bytes. Panics if their number is not the layout's.
    pub fn new(elements: usize, kind: ScaleKind, bytes: &'a [u8]) -> Self {
        let layout = Nf4Layout::new(elements, kind).expect("the size of a tensor in memory");
        assert_eq!(bytes.len(), layout.bytes(), "nf4: {elements} elements and their bytes differ");
        let floats = |range: &Range<usize>| bytes[range.clone()].as_chunks::<4>().0;
        let mut map = [0.0; 16];
        for (number, stored) in map.iter_mut().zip(floats(&layout.map)) {
            *number = f32::from_le_bytes(*stored);
        }
        let scales = match kind {
            ScaleKind::Single => Scales::Single(floats(&layout.absmax)),
            ScaleKind::Nested => Scales::Nested {
                absmax: &bytes[layout.absmax.clone()],
                nested_absmax: floats(&layout.nested_absmax),
                nested_map: floats(&layout.nested_map),
                offset: f32::from_le_bytes(floats(&layout.offset)[0]),
            },
        };
        Nf4View { elements, codes: &bytes[layout.codes], map, scales }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.elements
    }

    /// The mean of the scales, added to each 8-bit one; 0 for single scales.
    pub fn offset(&self) -> f32 {
        match self.scales {
            Scales::Single(_) => 0.0,
            Scales::Nested { offset, .. } => offset,
        }
    }

    /// The scale of a block.
    #[inline]
    pub fn absmax(&self, block: usize) -> f32 {
        match self.scales {
            Scales::Single(absmax) => f32::from_le_bytes(absmax[block]),
            Scales::Nested { absmax, nested_absmax, nested_map, offset } => {
                let number = f32::from_le_bytes(nested_map[usize::from(absmax[block])]);
                number * f32::from_le_bytes(nested_absmax[block / NESTED_BLOCK]) + offset
            }
        }
    }

    /// The code of an element, below 16.
    #[inline]
    pub fn code(&self, element: usize) -> usize {
        let byte = self.codes[element / 2];
        usize::from(if element.is_multiple_of(2) { byte >> 4 } else { byte & 15 })
    }

    /// Decodes the elements from `first` on. Panics beyond the end.
    pub fn decode(&self, first: usize, to: &mut [f32]) {
        let mut at = 0;
        while at < to.len() {
            let element = first + at;
            let count = (BLOCK - element % BLOCK).min(to.len() - at);
            let absmax = self.absmax(element / BLOCK);
            let numbers = self.map.map(|number| number * absmax);
            for (index, number) in to[at..at + count].iter_mut().enumerate() {
                *number = numbers[self.code(element + index)];
            }
            at += count;
        }
    }
}
