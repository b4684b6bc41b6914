//! The formats that linears are quantised to.

use remat_tensor::QuantFormat;
use remat_tensor::nf4::ScaleKind;
use std::fmt;

/// What linears are quantised to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Quant {
    /// Four bits in blocks of 64, with scales in 8 bits.
    #[default]
    Nf4,
    /// Eight bits with a scale per row. Only weights are: what they are multiplied with is not.
    Int8,
}

impl Quant {
    /// How such a weight is stored.
    pub const fn format(self) -> QuantFormat {
        match self {
            Quant::Nf4 => QuantFormat::Nf4(ScaleKind::Nested),
            Quant::Int8 => QuantFormat::Int8,
        }
    }

    /// The name that users choose it by.
    pub const fn name(self) -> &'static str {
        match self {
            Quant::Nf4 => "nf4",
            Quant::Int8 => "int8",
        }
    }

    pub(crate) fn of(format: QuantFormat) -> Self {
        match format {
            QuantFormat::Nf4(_) => Quant::Nf4,
            QuantFormat::Int8 => Quant::Int8,
        }
    }
}

impl fmt::Display for Quant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
