//! File containers, hostile ones included: safetensors, model and adapter configurations, tokenizers, atomic writes.
//!
//! Invariant: no file, whatever its bytes, makes this crate panic, hang or allocate more than a constant times the
//! file's size; every error names the file, and the key or tensor in it. What a tensor or key means is the business of
//! `model`; this crate only says what the files say.

mod added_tokens;
mod atomic;
mod bitsandbytes;
mod config;
mod disk_space;
mod edit_distance;
mod error;
mod files;
mod foreign_weights;
mod generation_config;
mod gguf;
mod guard;
mod held_file;
mod hub_name;
mod json;
mod keys;
mod model_files;
mod output_file;
mod own_files;
mod peft;
mod places;
mod safetensors;
mod setting_name;
mod tokenize;
mod tokenizer;
mod tokenizer_parts;
mod tokenizer_size;
mod unfinished;

pub use added_tokens::{GrownTokenizer, NewToken, grow_tokenizer, read_new_tokens};
pub use atomic::{fsync_folder, name_unnamed, sha256_file, write_atomic, write_atomic_with};
pub use bitsandbytes::{
    PartContent, QuantisedContent, QuantisedInfo, QuantisedPart, quantised_contents, quantised_parts, weight_of_part,
};
pub use config::{
    Activation, BlockSpec, Dropouts, Experts, GeluForm, Mlp, ModelConfig, Names, Norm, NormPlaces, Positions, Preset,
    Projections, QkNorm, RopeScaling, Rotary, SlidingWindow, WindowedLayers,
};
pub use disk_space::{free_bytes, require_space};
pub use edit_distance::edit_distance;
pub use error::FormatsError;
pub use files::{SETTINGS_LIMIT_BYTES, TOKENIZER_FILE_LIMIT_BYTES, open_file, read_file, read_text_file};
pub use foreign_weights::refuse_weight_file;
pub use generation_config::GenerationConfig;
pub use gguf::{
    GgufArchitecture, GgufElement, GgufEntry, GgufFile, GgufHeader, GgufName, GgufSpec, GgufTensor, GgufValue,
    GgufVocabulary, OutOfRange, VocabularyOf,
};
pub use guard::{guard_is_overdue, guarded, panic_is_caught};
pub use held_file::{HashingReader, HeldFile, sha256_bytes};
pub use hub_name::hub_name;
pub use model_files::ModelFiles;
pub use output_file::OutputFile;
pub use own_files::{LISTING_FILE, OwnFiles, files_below, lock_folder};
pub use peft::{AdapterConfig, TargetModules, TokenIndices};
pub use places::{Places, probe_folder, resolve};
pub use safetensors::{
    NamedTensor, SafetensorsFile, TensorInfo, TensorSpec, write_order, write_safetensors, write_safetensors_from,
};
pub use setting_name::{SettingName, Spelled, spell_settings};
pub use tokenize::Tokens;
pub use tokenizer::{ChatTemplates, Tokenizer};
pub use tokenizer_size::tokenizer_reading_bytes;
pub use unfinished::{Unfinished, is_unfinished, unfinished_folder};
