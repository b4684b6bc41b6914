//! Element types. Invariant: every dtype has a fixed size in bytes and one lower-case name used in all output.

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
}

impl DType {
    /// All element types, in declaration order.
    pub const ALL: [DType; 6] = [DType::F32, DType::BF16, DType::F16, DType::I32, DType::U32, DType::U8];

    /// Size of one element in bytes.
    pub const fn bytes(self) -> usize {
        match self {
            DType::F32 | DType::I32 | DType::U32 => 4,
            DType::BF16 | DType::F16 => 2,
            DType::U8 => 1,
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
        }
    }

    /// Whether values of this type are real numbers that can carry a gradient.
    pub const fn is_float(self) -> bool {
        matches!(self, DType::F32 | DType::BF16 | DType::F16)
    }

    /// Distance from 1 to the next larger number, for tolerances; 0 for integers.
    pub const fn epsilon(self) -> f64 {
        match self {
            DType::F32 => 1.0 / (1u64 << 23) as f64,
            DType::BF16 => 1.0 / (1u64 << 7) as f64,
            DType::F16 => 1.0 / (1u64 << 10) as f64,
            DType::I32 | DType::U32 | DType::U8 => 0.0,
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
            .ok_or_else(|| format!("unknown dtype '{text}' (known: f32, bf16, f16, i32, u32, u8)"))
    }
}
