//! Number formats that a user can ask for, and which one `auto` is.
//!
//! Invariant: `auto` depends on what the model is stored in and on the instruction set alone, so that a plan and its run
//! agree; a run's `config.toml` holds what it came to, never `auto`.

use remat_model::Model;
use remat_step::device::Level;
use remat_tensor::DType;
use serde::{Deserialize, Serialize};

/// Number format of activations and weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// 16-bit weights and activations; sums, gradients, moments and what is trained stay 32-bit.
    Bf16,
}

/// The number format as it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum PrecisionChoice {
    /// What the model is stored in, as near as this machine computes it.
    #[default]
    Auto,
    /// 32-bit floats throughout.
    F32,
    /// 16-bit weights and activations; sums, gradients, moments and what is trained stay 32-bit.
    Bf16,
}

impl PrecisionChoice {
    /// What it comes to for a model at an instruction set. Without vectors bf16 is taken apart in plain arithmetic, which
    /// costs more than its bytes save.
    pub fn of_model(self, model: &Model, level: Level) -> Precision {
        let is_16_bit = matches!(model.stored_dtype(), DType::BF16 | DType::F16);
        let by_default = if is_16_bit && level != Level::Portable { Precision::Bf16 } else { Precision::F32 };
        self.chosen().unwrap_or(by_default)
    }

    /// The format, unless that is still open.
    pub fn chosen(self) -> Option<Precision> {
        match self {
            PrecisionChoice::Auto => None,
            PrecisionChoice::F32 => Some(Precision::F32),
            PrecisionChoice::Bf16 => Some(Precision::Bf16),
        }
    }
}

impl Precision {
    /// The name that users choose it by, and beside it what the model is stored in, where that is something else.
    pub fn beside(self, stored: DType) -> String {
        match (self, stored) {
            (Precision::F32, DType::F32) => "f32".to_string(),
            (Precision::Bf16, DType::BF16) => "bf16".to_string(),
            (Precision::F32, stored) => format!("f32 (stored in {stored})"),
            (Precision::Bf16, stored) => format!("bf16 (stored in {stored})"),
        }
    }
}

impl From<Precision> for PrecisionChoice {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => PrecisionChoice::F32,
            Precision::Bf16 => PrecisionChoice::Bf16,
        }
    }
}

impl From<remat_model::Precision> for Precision {
    fn from(precision: remat_model::Precision) -> Self {
        match precision {
            remat_model::Precision::F32 => Precision::F32,
            remat_model::Precision::Bf16 => Precision::Bf16,
        }
    }
}

impl From<Precision> for remat_model::Precision {
    fn from(precision: Precision) -> Self {
        match precision {
            Precision::F32 => remat_model::Precision::F32,
            Precision::Bf16 => remat_model::Precision::Bf16,
        }
    }
}
