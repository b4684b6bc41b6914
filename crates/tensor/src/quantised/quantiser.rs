//! Quantises weights from pieces of any length, group by group, with the bits of bitsandbytes.
//!
//! Invariant: beside its result a weight takes the numbers of one group and 4 bytes per group (the scales, until all are
//! known), in buffers that are used again.

use super::QuantFormat;
use crate::nf4::{self, Nf4Layout};
use crate::{Shape, int8};

/// A number that cannot be quantised.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NotFinite {
    /// Its index in the tensor.
    pub index: usize,
    /// Infinite, or not a number.
    pub value: f32,
}

/// Quantises weights, one after the other, with one set of buffers.
#[derive(Debug, Default)]
pub struct Quantiser {
    absmax: Vec<f32>,
    pending: Vec<f32>,
}

impl Quantiser {
    /// Without buffers yet.
    pub fn new() -> Self {
        Quantiser::default()
    }

    /// Starts a weight that is written to `target`, which must have the format's size.
    pub fn begin<'a>(&'a mut self, format: QuantFormat, shape: &Shape, target: &'a mut [u8]) -> QuantisedTensor<'a> {
        assert_eq!(
            Some(target.len()),
            format.bytes(shape),
            "the target has not the size of {} {shape}",
            format.dtype()
        );
        let (elements, group) = (shape.numel(), format.group(shape));
        self.absmax.clear();
        self.absmax.reserve_exact(elements.div_ceil(group));
        self.pending.clear();
        self.pending.reserve_exact(group);
        QuantisedTensor { absmax: &mut self.absmax, pending: &mut self.pending, format, elements, group, target }
    }
}

/// A weight that is being quantised.
#[derive(Debug)]
pub struct QuantisedTensor<'a> {
    /// Scales of the groups that came.
    absmax: &'a mut Vec<f32>,
    /// The beginning of the next group.
    pending: &'a mut Vec<f32>,
    format: QuantFormat,
    elements: usize,
    group: usize,
    target: &'a mut [u8],
}

impl QuantisedTensor<'_> {
    /// Takes the next elements.
    ///
    /// # Errors
    /// One that is infinite or not a number. The weight is to be given up then.
    pub fn push(&mut self, mut values: &[f32]) -> Result<(), NotFinite> {
        while !values.is_empty() {
            // The last group may be short; its faults are found while it is pushed.
            let group = self.group.min(self.elements - self.absmax.len() * self.group);
            let missing = group - self.pending.len();
            if values.len() < missing {
                self.pending.extend_from_slice(values);
                return Ok(());
            }
            let (now, later) = values.split_at(missing);
            values = later;
            if self.pending.is_empty() {
                self.group(now)?;
                continue;
            }
            let mut whole = std::mem::take(self.pending);
            whole.extend_from_slice(now);
            let done = self.group(&whole);
            whole.clear();
            *self.pending = whole;
            done?;
        }
        Ok(())
    }

    fn group(&mut self, values: &[f32]) -> Result<(), NotFinite> {
        let first = self.absmax.len() * self.group;
        let absmax = largest_magnitude(values);
        if !absmax.is_finite() {
            let index = values.iter().position(|value| !value.is_finite()).unwrap_or(0);
            return Err(NotFinite { index: first + index, value: values[index] });
        }
        let end = first + values.len();
        self.absmax.push(match self.format {
            QuantFormat::Nf4(_) => nf4::quantise_block(values, absmax, &mut self.target[first / 2..end.div_ceil(2)]),
            QuantFormat::Int8 => int8::quantise_row(values, absmax, &mut self.target[first..end]),
        });
        Ok(())
    }

    /// Writes the scales and what else the format has. Panics if more or fewer elements came than the shape has.
    pub fn finish(self) {
        let QuantisedTensor { absmax, pending, format, elements, group, target } = self;
        let groups = elements.div_ceil(group);
        assert!(
            absmax.len() == groups && pending.is_empty(),
            "{}: of {elements} elements some did not come",
            format.dtype()
        );
        match format {
            QuantFormat::Nf4(kind) => {
                let layout = Nf4Layout::new(elements, kind).expect("`begin` checked the size");
                nf4::write_scales(&layout, absmax, target);
            }
            QuantFormat::Int8 => write_floats(&mut target[elements..], absmax),
        }
    }
}

/// The largest magnitude; not a number if one of the values is not finite.
fn largest_magnitude(values: &[f32]) -> f32 {
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
    if !finite || rest.iter().any(|value| !value.is_finite()) { f32::NAN } else { largest }
}

/// Writes numbers as little-endian bytes.
pub(crate) fn write_floats(target: &mut [u8], numbers: &[f32]) {
    for (bytes, number) in target.as_chunks_mut::<4>().0.iter_mut().zip(numbers) {
        *bytes = number.to_le_bytes();
    }
}
