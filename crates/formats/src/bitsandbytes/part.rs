//! A quantised weight and the tensors that it is stored in. Invariant: what is said here holds for every format; which parts
//! a format has is in the file of its name.

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
    pub(super) offset: f32,
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

/// Where some bytes of a quantised weight are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QuantisedContent {
    /// All of the tensor of this name.
    Tensor(String),
    /// In no tensor as they are.
    Known(Vec<u8>),
}

impl ModelFiles {
    /// Reads a small tensor whole.
    pub(super) fn read_bytes_into(&self, name: &str, target: &mut [u8]) -> Result<(), FormatsError> {
        let file: &SafetensorsFile = self.file_of(name)?;
        let mut at = 0;
        file.read_chunks(name, &mut |piece| {
            target[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })
    }

    pub(super) fn fault(&self, name: &str, problem: &str) -> FormatsError {
        FormatsError::tensor(self.folder(), name, problem)
    }
}
