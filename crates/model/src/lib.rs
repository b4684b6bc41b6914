//! Pretrained decoders as graphs: what to compute, which parameters train, and where their values come from.
//!
//! Invariant: a family file holds the architecture and the checkpoint's own names, nothing of checkpointing, memory or
//! devices. Look next at [`family`] for the architectures and at `lora` for adapters.

mod adapter;
mod build;
mod error;
pub mod family;
mod full;
mod generation;
mod load;
mod lora;
mod model;
mod precision;
mod preset;
mod quantise;
mod rope;
mod source;
mod stored;

pub use adapter::ADAPTER_FILES;
pub use build::{BatchShape, Evaluation, Inference, Method, training};
pub use error::ModelError;
pub use full::MODEL_FILES;
pub use generation::{CacheShape, Generation};
pub use lora::{LoraConfig, Targets};
pub use model::Model;
pub use precision::{Precision, refresh_working_copies};
pub use preset::{preset, preset_json, preset_names};
pub use quantise::QuantiseReport;
pub use stored::Quant;
