//! Pretrained decoders as graphs: what to compute, which parameters train, and where their values come from.
//!
//! Invariant: one builder makes every decoder from its configuration; it holds nothing of checkpointing, memory or devices.
//! Look next at `decoder` for the builder, `remat_formats::ModelConfig` for the families, `adapter` for what is trained
//! beside a frozen base, and `objective` for the loss.

mod adapter;
mod build;
mod companions;
mod decoder;
mod error;
mod experts;
mod export;
mod full;
mod gate;
mod generation;
mod graph_builder;
mod load;
mod merge;
mod method;
mod model;
mod model_builder;
mod names;
mod objective;
mod out_folder;
mod parameters;
mod precision;
mod preset;
mod quant;
mod quantise;
mod rope;
mod source;
mod stored;

pub use adapter::{
    ADAPTER_FILES, AdapterSettings, AdapterStart, Layers, LoraConfig, LoraVariant, ModulePattern, Targets,
    TrainedBiases,
};
pub use build::{Evaluation, Inference, training};
pub use companions::{MODEL_FILES, companion_files, is_model_file};
pub use error::ModelError;
pub use export::{GgufOptions, GgufReport};
pub use generation::{CacheShape, Generation};
pub use merge::{MergeOptions, MergeReport};
pub use method::Method;
pub use model::Model;
pub use model_builder::BatchShape;
pub use objective::{Metrics, NEXT_TOKEN, Objective};
pub use precision::{Precision, refresh_working_copies};
pub use preset::{preset, preset_json, preset_names};
pub use quant::Quant;
pub use quantise::QuantiseReport;
