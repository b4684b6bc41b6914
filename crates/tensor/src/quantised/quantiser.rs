//! Quantises weights from pieces of any length, group by group, with the bits of bitsandbytes.
//!
//! Invariant: a weight is handed on while it comes. It takes the numbers of one group, a buffer of codes, and the scales
//! until all are known: 4 bytes per group, and as stored once more when they are handed on. Buffers are used again.

use super::format::QuantFormat;
use crate::little_endian::write_floats;
use crate::nf4::{self, Nf4Layout};
use crate::{Shape, int8};

/// Codes that are handed on at a time.
const BUFFER_BYTES: usize = 1 << 16;

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
    codes: Vec<u8>,
}

impl Quantiser {
    /// Without buffers yet.
    pub fn new() -> Self {
        Quantiser::default()
    }

    /// Starts a weight. `write` is given its bytes as they are known, each with where it belongs: codes from the first to
    /// the last, then what stands behind them. Panics if the shape is of more bytes than there can be.
    pub fn begin<'a>(
        &'a mut self,
        format: QuantFormat,
        shape: &Shape,
        write: &'a mut dyn FnMut(usize, &[u8]),
    ) -> QuantisedTensor<'a> {
        let bytes = format.bytes(shape).unwrap_or_else(|| panic!("{} {shape} has no size", format.dtype()));
        let (elements, group) = (shape.numel(), format.group(shape));
        self.absmax.clear();
        self.absmax.reserve_exact(elements.div_ceil(group));
        self.pending.clear();
        self.pending.reserve_exact(group);
        self.codes.clear();
        self.codes.reserve_exact(BUFFER_BYTES);
        QuantisedTensor {
            absmax: &mut self.absmax,
            pending: &mut self.pending,
            codes: &mut self.codes,
            written: 0,
            format,
            elements,
            group,
            bytes,
            write,
        }
    }
}

/// A weight that is being quantised.
pub struct QuantisedTensor<'a> {
    /// Scales of the groups that came.
    absmax: &'a mut Vec<f32>,
    /// The beginning of the next group.
    pending: &'a mut Vec<f32>,
    /// Codes that were not handed on yet.
    codes: &'a mut Vec<u8>,
    /// Bytes of codes that were.
    written: usize,
    format: QuantFormat,
    elements: usize,
    group: usize,
    bytes: usize,
    write: &'a mut dyn FnMut(usize, &[u8]),
}

impl std::fmt::Debug for QuantisedTensor<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "QuantisedTensor({}, {} of {} elements)",
            self.format.dtype(),
            self.absmax.len() * self.group,
            self.elements
        )
    }
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
        let start = self.codes.len();
        self.absmax.push(match self.format {
            QuantFormat::Nf4(_) => {
                self.codes.resize(start + values.len().div_ceil(2), 0);
                nf4::quantise_block(values, absmax, &mut self.codes[start..])
            }
            QuantFormat::Int8 => {
                self.codes.resize(start + values.len(), 0);
                int8::quantise_row(values, absmax, &mut self.codes[start..])
            }
        });
        if self.codes.len() + self.group > BUFFER_BYTES {
            self.hand_on();
        }
        Ok(())
    }

    fn hand_on(&mut self) {
        (self.write)(self.written, self.codes);
        self.written += self.codes.len();
        self.codes.clear();
    }

    /// Writes the scales and what else the format has. Panics if more or fewer elements came than the shape has.
    pub fn finish(mut self) {
        self.hand_on();
        let QuantisedTensor { absmax, pending, written, format, elements, group, bytes, write, .. } = self;
        let groups = elements.div_ceil(group);
        assert!(
            absmax.len() == groups && pending.is_empty(),
            "{}: of {elements} elements some did not come",
            format.dtype()
        );
        match format {
            QuantFormat::Nf4(kind) => {
                let layout = Nf4Layout::new(elements, kind).expect("`begin` checked the size");
                let mut behind = vec![0; bytes - written];
                nf4::write_scales(&layout, absmax, &mut behind);
                write(written, &behind);
            }
            QuantFormat::Int8 => {
                let mut floats = [0; 4 * 256];
                for (index, scales) in absmax.chunks(256).enumerate() {
                    write_floats(&mut floats, scales);
                    write(written + index * floats.len(), &floats[..4 * scales.len()]);
                }
            }
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

/// What puts a weight's bytes where they belong in `target`, to begin a weight with.
pub fn into_bytes(target: &mut [u8]) -> impl FnMut(usize, &[u8]) {
    |at, bytes| target[at..at + bytes.len()].copy_from_slice(bytes)
}
