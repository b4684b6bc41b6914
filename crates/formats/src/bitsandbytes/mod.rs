//! Weights as bitsandbytes stores them: a tensor `X` of codes, and tensors with its scales and settings, whose names and
//! contents depend on the format.
//!
//! Invariant: a [`QuantisedInfo`] describes parts that are all in the files with the sizes they must have, so that reading
//! cannot go wrong half-way. Look next at `nf4.rs` and `int8.rs`, and at `remat_tensor` for what the parts mean.

mod int8;
mod nf4;
mod part;

pub use part::{PartContent, QuantisedContent, QuantisedInfo, QuantisedPart};

use crate::{FormatsError, ModelFiles};
use remat_tensor::{DType, QuantFormat, Shape};
use std::ops::Range;

impl ModelFiles {
    /// What the files say of the weight `name`, if they hold it quantised.
    ///
    /// # Errors
    /// A format that is not supported; parts that are missing or of a wrong size.
    pub fn quantised_info(&self, name: &str) -> Result<Option<QuantisedInfo>, FormatsError> {
        let info = match self.nf4_info(name)? {
            Some(info) => Some(info),
            None => self.int8_info(name)?,
        };
        let Some(info) = info else { return Ok(None) };
        for (part, range) in parts(name, &info) {
            match self.tensor_info(&part) {
                None => return Err(self.fault(&part, "is missing: the quantised weight is incomplete")),
                Some(stored) if stored.bytes == range.len() as u64 => {}
                Some(stored) => {
                    let problem =
                        format!("has {} bytes; a weight of shape {} takes {}", stored.bytes, info.shape, range.len());
                    return Err(self.fault(&part, &problem));
                }
            }
        }
        Ok(Some(info))
    }

    /// Reads a quantised weight, with the file's own maps, piece by piece: `write` is given each with where it belongs in
    /// the weight's bytes, as its format lays them out.
    ///
    /// # Errors
    /// A read that fails.
    pub fn read_quantised(
        &self,
        name: &str,
        info: &QuantisedInfo,
        write: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), FormatsError> {
        for (part, range) in parts(name, info) {
            let mut at = range.start;
            self.file_of(&part)?.read_chunks(&part, &mut |piece| {
                write(at, piece);
                at += piece.len();
                Ok(())
            })?;
        }
        if let QuantFormat::Nf4(kind) = info.format {
            nf4::write_offset(info, kind, write);
        }
        Ok(())
    }
}

/// What the bytes of the quantised weight `name` are made of, as its format lays them out, one behind the other.
pub fn quantised_contents(name: &str, info: &QuantisedInfo) -> Vec<QuantisedContent> {
    let parts = parts(name, info).into_iter();
    let mut contents: Vec<_> = parts.map(|(part, range)| (range, QuantisedContent::Tensor(part))).collect();
    if let QuantFormat::Nf4(kind) = info.format {
        nf4::write_offset(info, kind, &mut |at, bytes| {
            contents.push((at..at + bytes.len(), QuantisedContent::Known(bytes.to_vec())));
        });
    }
    contents.sort_by_key(|(range, _)| range.start);
    contents.into_iter().map(|(_, content)| content).collect()
}

/// The tensors of a weight that hold bytes of its layout.
fn parts(name: &str, info: &QuantisedInfo) -> Vec<(String, Range<usize>)> {
    match info.format {
        QuantFormat::Nf4(kind) => nf4::parts(name, info, kind),
        QuantFormat::Int8 => int8::parts(name, info),
    }
}

/// The name of the weight that a tensor of this name is a part of, if it were one of a quantised weight.
pub fn weight_of_part(name: &str) -> Option<String> {
    nf4::weight_of_part(name).or_else(|| int8::weight_of_part(name))
}

/// The tensors that hold a weight of this shape, whose elements were of `dtype`. `tensor` is the weight, of which small
/// parts are kept; codes and scales are named by their range alone.
///
/// # Panics
/// NF4 with single scales, which is read but not written.
pub fn quantised_parts(
    name: &str,
    shape: &Shape,
    format: QuantFormat,
    dtype: DType,
    tensor: &[u8],
) -> Vec<QuantisedPart> {
    match format {
        QuantFormat::Nf4(kind) => nf4::written_parts(name, shape, kind, dtype, tensor),
        QuantFormat::Int8 => int8::written_parts(name, shape),
    }
}
