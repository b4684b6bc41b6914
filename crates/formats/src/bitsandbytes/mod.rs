//! Weights as bitsandbytes stores them: a tensor `X` of codes, and tensors with its scales and settings, whose names and
//! contents depend on the format.
//!
//! Invariant: a [`QuantisedInfo`] describes parts that are all in the files with the sizes they must have, so that reading
//! cannot go wrong half-way. Look next at `nf4.rs` and `int8.rs`, and at `remat_tensor` for what the parts mean.

mod int8;
mod nf4;

use crate::{FormatsError, ModelFiles, SafetensorsFile};
use remat_tensor::{DType, QuantFormat, Shape};
use std::ops::Range;

/// What the files say of a quantised weight.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedInfo {
    /// The weight's dimensions.
    pub shape: Shape,
    /// How it is stored.
    pub format: QuantFormat,
    /// Mean of the scales of NF4, where these are quantised, too; else 0.
    offset: f32,
}

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

    fn read_bytes_into(&self, name: &str, target: &mut [u8]) -> Result<(), FormatsError> {
        let file: &SafetensorsFile = self.file_of(name)?;
        let mut at = 0;
        file.read_chunks(name, &mut |piece| {
            target[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })
    }

    fn fault(&self, name: &str, problem: &str) -> FormatsError {
        FormatsError::tensor(self.folder(), name, problem)
    }
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

/// One tensor of a quantised weight that is to be written.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantisedPart {
    /// Its name in the file.
    pub name: String,
    /// Its element type in the file.
    pub dtype: DType,
    /// Its shape in the file.
    pub shape: Shape,
    /// Its bytes.
    pub content: PartContent,
}

/// Where the bytes of a part come from.
#[derive(Debug, Clone, PartialEq)]
pub enum PartContent {
    /// Known beforehand.
    Bytes(Vec<u8>),
    /// A range of the weight's bytes.
    Range(Range<usize>),
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
