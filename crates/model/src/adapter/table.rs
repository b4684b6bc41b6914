//! Every kind of adapter, one line each.

use super::dora::DORA;
use super::lora::LORA;
use super::variant::LoraVariant;

/// The first that PEFT's settings ask for reads them.
pub(super) const VARIANTS: [LoraVariant; 2] = [LORA, DORA];
