//! The formats of quantised weights.

use crate::Shape;
use crate::int8::Int8Layout;
use crate::nf4::{self, Nf4Layout, ScaleKind};

/// How the elements of a quantised weight are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantFormat {
    /// Four bits in blocks of 64: see [`crate::nf4`].
    Nf4(ScaleKind),
    /// Eight bits with a scale per row: see [`crate::int8`].
    Int8,
}

impl QuantFormat {
    /// Size of a weight of this shape in bytes; `None` if it does not fit a `usize`.
    pub fn bytes(self, shape: &Shape) -> Option<usize> {
        match self {
            QuantFormat::Nf4(kind) => Some(Nf4Layout::new(shape.checked_numel()?, kind)?.bytes()),
            QuantFormat::Int8 => Some(Int8Layout::new(shape)?.bytes()),
        }
    }

    /// Elements that share a scale, of a weight of this shape; at least 1.
    pub(super) fn group(self, shape: &Shape) -> usize {
        match self {
            QuantFormat::Nf4(_) => nf4::BLOCK,
            QuantFormat::Int8 => shape.last().max(1),
        }
    }
}
