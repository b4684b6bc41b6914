//! Element types. Invariant: a dtype and a shape fix a size in bytes; every dtype has one lower-case name used in all
//! output.

use crate::nf4::ScaleKind;
use crate::{QuantFormat, Shape};
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
    /// Signed bytes; occurs in files only, as the codes of int8 weights.
    I8,
    /// Four bits in blocks, with scales of 8 bits: frozen weights only. See [`crate::nf4`].
    Nf4,
    /// The same with f32 scales, as some files have it.
    Nf4Single,
    /// Eight bits with a scale per row: frozen weights only. See [`crate::int8`].
    Int8,
}

impl DType {
    /// The types whose elements stand on their own, in declaration order.
    pub const PLAIN: [DType; 7] = [DType::F32, DType::BF16, DType::F16, DType::I32, DType::U32, DType::U8, DType::I8];

    /// All element types, in declaration order.
    pub const ALL: [DType; 10] = [
        DType::F32,
        DType::BF16,
        DType::F16,
        DType::I32,
        DType::U32,
        DType::U8,
        DType::I8,
        DType::Nf4,
        DType::Nf4Single,
        DType::Int8,
    ];

    /// Size of one element in bytes; `None` for quantised types.
    pub const fn element_bytes(self) -> Option<usize> {
        match self {
            DType::F32 | DType::I32 | DType::U32 => Some(4),
            DType::BF16 | DType::F16 => Some(2),
            DType::U8 | DType::I8 => Some(1),
            DType::Nf4 | DType::Nf4Single | DType::Int8 => None,
        }
    }

    /// Size of a tensor of this shape in bytes; `None` if it does not fit a `usize`.
    pub fn bytes_of(self, shape: &Shape) -> Option<usize> {
        match (self.element_bytes(), self.quant_format()) {
            (Some(bytes), _) => shape.checked_numel()?.checked_mul(bytes),
            (None, Some(format)) => format.bytes(shape),
            (None, None) => None,
        }
    }

    /// How elements are quantised; `None` for types whose elements stand on their own.
    pub const fn quant_format(self) -> Option<QuantFormat> {
        match self {
            DType::Nf4 => Some(QuantFormat::Nf4(ScaleKind::Nested)),
            DType::Nf4Single => Some(QuantFormat::Nf4(ScaleKind::Single)),
            DType::Int8 => Some(QuantFormat::Int8),
            DType::F32 | DType::BF16 | DType::F16 | DType::I32 | DType::U32 | DType::U8 | DType::I8 => None,
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
            DType::I8 => "i8",
            DType::Nf4 => "nf4",
            DType::Nf4Single => "nf4_single",
            DType::Int8 => "int8",
        }
    }

    /// Whether values of this type are real numbers that can be computed with and carry a gradient.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::BF16 | DType::F16)
    }

    /// Distance from 1 to the next larger number, for tolerances; 0 for integers and quantised types.
    pub const fn epsilon(self) -> f64 {
        match self {
            DType::F32 => 1.0 / (1u64 << 23) as f64,
            DType::BF16 => 1.0 / (1u64 << 7) as f64,
            DType::F16 => 1.0 / (1u64 << 10) as f64,
            DType::I32 | DType::U32 | DType::U8 | DType::I8 | DType::Nf4 | DType::Nf4Single | DType::Int8 => 0.0,
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
        DType::ALL.into_iter().find(|dtype| dtype.name() == text).ok_or_else(|| {
            format!("unknown dtype '{text}' (known: f32, bf16, f16, i32, u32, u8, i8, nf4, nf4_single, int8)")
        })
    }
}

impl QuantFormat {
    /// The dtype of such a weight.
    pub const fn dtype(self) -> DType {
        match self {
            QuantFormat::Nf4(ScaleKind::Nested) => DType::Nf4,
            QuantFormat::Nf4(ScaleKind::Single) => DType::Nf4Single,
            QuantFormat::Int8 => DType::Int8,
        }
    }
}
