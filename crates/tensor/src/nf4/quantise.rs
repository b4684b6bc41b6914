//! Quantises blocks to NF4 with the bits of bitsandbytes.
//!
//! Invariant: a block's codes depend on its own numbers alone; only the scales' codes depend on all scales. Work: 15
//! comparisons per element. Look next at `quantised/quantiser.rs`, which cuts a tensor into blocks.

use super::scales::{nested_map, quantise_scales};
use super::{BLOCK, MAP, Nf4Layout, ScaleKind};
use crate::little_endian::write_floats;
use std::ops::Range;

/// The smallest magnitude a block is divided by.
const SMALLEST: f32 = 1e-38;

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

/// Quantises the values of one block with this largest magnitude: two codes per byte, an odd end filled with the code of
/// 0. Returns the scale that is stored.
pub(crate) fn quantise_block(values: &[f32], largest: f32, codes: &mut [u8]) -> f32 {
    debug_assert!(values.len() <= BLOCK && codes.len() == values.len().div_ceil(2));
    let mut quotients = [0.0f32; BLOCK];
    // The last block, if it is short, is stored with the bound it is divided by.
    let absmax = if values.len() < BLOCK { largest.max(SMALLEST) } else { largest };
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
    absmax
}

/// Writes scales and maps to `behind`, the part of a tensor's bytes that stands behind its codes.
pub(crate) fn write_scales(layout: &Nf4Layout, absmax: &mut [f32], behind: &mut [u8]) {
    let codes = layout.codes.end;
    let part = |range: &Range<usize>| range.start - codes..range.end - codes;
    write_floats(&mut behind[part(&layout.map)], &MAP);
    match layout.kind {
        ScaleKind::Single => write_floats(&mut behind[part(&layout.absmax)], absmax),
        ScaleKind::Nested => {
            let (head, tail) = behind.split_at_mut(part(&layout.nested_absmax).start);
            let nested = tail[..layout.nested_absmax.len()].as_chunks_mut::<4>().0;
            let codes = &mut head[part(&layout.absmax)];
            let offset = quantise_scales(absmax, codes, |block, scale| nested[block] = scale.to_le_bytes());
            write_floats(&mut behind[part(&layout.nested_map)], nested_map());
            write_floats(&mut behind[part(&layout.offset)], &[offset]);
        }
    }
}
