//! Element types. Invariant: a dtype and a number of elements fix a size in bytes; every dtype has one lower-case name
//! used in all output.

use crate::nf4::{Nf4Layout, ScaleKind};
use std::fmt;
use std::str::FromStr;

/// The type of one element of a tensor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DType {
    /// IEEE 754 binary32.
    F32,
    /// bfloat16: the upper half of a binary32.
    BF16,
    /// IEEE 754 binary16; occurs in files only, computed in f32 or bf16.
    F16,
    /// Signed 32-bit integer: token ids, labels, positions.
    I32,
    /// Unsigned 32-bit integer: generator keys.
    U32,
    /// Bytes.
    U8,
    /// Four bits in blocks, with scales of 8 bits: frozen weights only. See [`crate::nf4`].
    Nf4,
    /// The same with f32 scales, as some files have it.
    Nf4Single,
}

impl DType {
    /// The types whose elements stand on their own, in declaration order.
    pub const PLAIN: [DType; 6] = [DType::F32, DType::BF16, DType::F16, DType::I32, DType::U32, DType::U8];

    /// All element types, in declaration order.
    pub const ALL: [DType; 8] =
        [DType::F32, DType::BF16, DType::F16, DType::I32, DType::U32, DType::U8, DType::Nf4, DType::Nf4Single];

    /// Size of one element in bytes; `None` for types that store blocks.
    pub const fn element_bytes(self) -> Option<usize> {
        match self {
            DType::F32 | DType::I32 | DType::U32 => Some(4),
            DType::BF16 | DType::F16 => Some(2),
            DType::U8 => Some(1),
            DType::Nf4 | DType::Nf4Single => None,
        }
    }

    /// Size of so many elements in bytes; `None` if it does not fit a `usize`.
    pub fn bytes_of(self, elements: usize) -> Option<usize> {
        match (self.element_bytes(), self.scale_kind()) {
            (Some(bytes), _) => elements.checked_mul(bytes),
            (None, Some(kind)) => Nf4Layout::new(elements, kind).map(|layout| layout.bytes()),
            (None, None) => None,
        }
    }

    /// How scales are stored; `None` for types that do not store blocks.
    pub const fn scale_kind(self) -> Option<ScaleKind> {
        match self {
            DType::Nf4 => Some(ScaleKind::Nested),
            DType::Nf4Single => Some(ScaleKind::Single),
            DType::F32 | DType::BF16 | DType::F16 | DType::I32 | DType::U32 | DType::U8 => None,
        }
    }

    /// The name used in all printed output, `f32` for instance.
    pub const fn name(self) -> &'static str {
        match self {
            DType::F32 => "f32",
            DType::BF16 => "bf16",
            DType::F16 => "f16",
            DType::I32 => "i32",
            DType::U32 => "u32",
            DType::U8 => "u8",
            DType::Nf4 => "nf4",
            DType::Nf4Single => "nf4_single",
        }
    }

    /// Whether values of this type are real numbers that can be computed with and carry a gradient.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::BF16 | DType::F16)
    }

    /// Distance from 1 to the next larger number, for tolerances; 0 for integers and for blocks.
    pub const fn epsilon(self) -> f64 {
        match self {
            DType::F32 => 1.0 / (1u64 << 23) as f64,
            DType::BF16 => 1.0 / (1u64 << 7) as f64,
            DType::F16 => 1.0 / (1u64 << 10) as f64,
            DType::I32 | DType::U32 | DType::U8 | DType::Nf4 | DType::Nf4Single => 0.0,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for DType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        DType::ALL
            .into_iter()
            .find(|dtype| dtype.name() == text)
            .ok_or_else(|| format!("unknown dtype '{text}' (known: f32, bf16, f16, i32, u32, u8, nf4, nf4_single)"))
    }
}
