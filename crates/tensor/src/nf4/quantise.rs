//! Quantises blocks to NF4 with the bits of bitsandbytes, from pieces of any length.
//!
//! Invariant: beside its result a tensor takes 4 bytes per block of 64 (its scales, until their mean is known), in a
//! buffer that is used again. Work: 15 comparisons per element; blocks are independent, so that callers may spread
//! them over threads.

use super::scales::{nested_map, quantise_scales};
use super::{BLOCK, MAP, Nf4Layout, ScaleKind};

/// The smallest magnitude a block is divided by.
const SMALLEST: f32 = 1e-38;

/// A number that cannot be quantised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NotFinite {
    /// Its index in the tensor.
    pub index: usize,
    /// Infinite, or not a number.
    pub value: f32,
}

/// Boundaries between the numbers of the map: a quotient gets the number of boundaries below it.
const BOUNDARIES: [f32; 15] = {
    let mut boundaries = [0.0; 15];
    let mut index = 0;
    while index < 15 {
        boundaries[index] = (MAP[index] + MAP[index + 1]) / 2.0;
        index += 1;
    }
    boundaries
};

/// The scale of a block, as stored: its largest magnitude (NaN and infinity come out as such).
pub fn block_absmax(values: &[f32]) -> f32 {
    let mut most = [0.0f32; 16];
    let (rows, rest) = values.as_chunks::<16>();
    let mut finite = true;
    for row in rows {
        for (most, value) in most.iter_mut().zip(row) {
            *most = most.max(value.abs());
            finite &= value.is_finite();
        }
    }
    let largest = rest.iter().chain(&most).fold(0.0f32, |most, value| most.max(value.abs()));
    if !finite || rest.iter().any(|value| !value.is_finite()) {
        return f32::NAN;
    }
    // The last block, if it is short, is stored with the bound it is divided by.
    if values.len() < BLOCK { largest.max(SMALLEST) } else { largest }
}

/// Quantises the values of one block with this scale: two codes per byte, an odd end filled with the code of 0.
pub fn quantise_block(values: &[f32], absmax: f32, codes: &mut [u8]) {
    debug_assert!(values.len() <= BLOCK && codes.len() == values.len().div_ceil(2));
    let mut quotients = [0.0f32; BLOCK];
    if values.len() == BLOCK {
        let factor = 1.0 / absmax.max(SMALLEST);
        quotients.iter_mut().zip(values).for_each(|(quotient, value)| *quotient = value * factor);
    } else {
        quotients.iter_mut().zip(values).for_each(|(quotient, value)| *quotient = value / absmax);
    }
    let mut indices = [0u32; BLOCK];
    for boundary in BOUNDARIES {
        indices.iter_mut().zip(&quotients).for_each(|(index, &quotient)| *index += u32::from(quotient > boundary));
    }
    for (byte, pair) in codes.iter_mut().zip(indices.as_chunks::<2>().0) {
        *byte = (pair[0] << 4 | pair[1]) as u8;
    }
}

/// Quantises tensors, one after the other, with one buffer for their scales.
#[derive(Debug, Default)]
pub struct Nf4Quantiser {
    absmax: Vec<f32>,
}

impl Nf4Quantiser {
    /// Without a buffer yet.
    pub fn new() -> Self {
        Nf4Quantiser::default()
    }

    /// Starts a tensor that is written to `target`, which must have the layout's size.
    pub fn begin<'a>(&'a mut self, layout: Nf4Layout, target: &'a mut [u8]) -> Nf4Tensor<'a> {
        assert_eq!(target.len(), layout.bytes(), "nf4: the target has not the size of {} elements", layout.elements);
        self.absmax.clear();
        self.absmax.reserve_exact(layout.blocks());
        Nf4Tensor { absmax: &mut self.absmax, layout, target, pending: [0.0; BLOCK], waiting: 0 }
    }
}

/// A tensor that is being quantised.
#[derive(Debug)]
pub struct Nf4Tensor<'a> {
    absmax: &'a mut Vec<f32>,
    layout: Nf4Layout,
    target: &'a mut [u8],
    /// The beginning of the next block.
    pending: [f32; BLOCK],
    waiting: usize,
}

impl Nf4Tensor<'_> {
    /// Takes the next elements.
    ///
    /// # Errors
    /// One that is infinite or not a number. The tensor is to be given up then.
    pub fn push(&mut self, mut values: &[f32]) -> Result<(), NotFinite> {
        if self.waiting > 0 {
            let (now, later) = values.split_at(values.len().min(BLOCK - self.waiting));
            self.pending[self.waiting..self.waiting + now.len()].copy_from_slice(now);
            self.waiting += now.len();
            values = later;
            if self.waiting < BLOCK {
                return self.finish_if_last();
            }
            let block = self.pending;
            self.waiting = 0;
            self.block(&block)?;
        }
        let (blocks, rest) = values.as_chunks::<BLOCK>();
        blocks.iter().try_for_each(|block| self.block(block))?;
        self.pending[..rest.len()].copy_from_slice(rest);
        self.waiting = rest.len();
        self.finish_if_last()
    }

    /// Quantises a short block when it is the tensor's last, so that its faults are found while it is pushed.
    fn finish_if_last(&mut self) -> Result<(), NotFinite> {
        if self.waiting > 0 && self.absmax.len() * BLOCK + self.waiting == self.layout.elements {
            let (block, count) = (self.pending, self.waiting);
            self.waiting = 0;
            self.block(&block[..count])?;
        }
        Ok(())
    }

    fn block(&mut self, values: &[f32]) -> Result<(), NotFinite> {
        let absmax = block_absmax(values);
        let first = self.absmax.len() * BLOCK;
        if !absmax.is_finite() {
            let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(NotFinite { index: first + index, value: values[index] });
        }
        quantise_block(values, absmax, &mut self.target[first / 2..(first + values.len()).div_ceil(2)]);
        self.absmax.push(absmax);
        Ok(())
    }

    /// Writes scales and maps. Panics if more or fewer elements came than the layout has.
    pub fn finish(self) {
        let Nf4Tensor { absmax, layout, target, waiting, .. } = self;
        assert!(absmax.len() == layout.blocks() && waiting == 0, "nf4: {} elements did not come", layout.elements);
        write_floats(&mut target[layout.map.clone()], &MAP);
        match layout.kind {
            ScaleKind::Single => write_floats(&mut target[layout.absmax.clone()], absmax),
            ScaleKind::Nested => {
                let (head, tail) = target.split_at_mut(layout.nested_absmax.start);
                let nested = tail[..layout.nested_absmax.len()].as_chunks_mut::<4>().0;
                let codes = &mut head[layout.absmax.clone()];
                let offset = quantise_scales(absmax, codes, |block, scale| nested[block] = scale.to_le_bytes());
                write_floats(&mut target[layout.nested_map.clone()], nested_map());
                write_floats(&mut target[layout.offset.clone()], &[offset]);
            }
        }
    }
}

fn write_floats(target: &mut [u8], numbers: &[f32]) {
    for (bytes, number) in target.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
}
