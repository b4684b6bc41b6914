//! File containers, hostile ones included: safetensors, model and adapter configurations, tokenizers, atomic writes.
//!
//! Invariant: no file, whatever its bytes, makes this crate panic or allocate more than a constant times the file's
//! size; every error names the file and the key or tensor. What a tensor or key means is `model`'s business.

mod atomic;
mod config;
mod error;
mod model_files;
mod peft;
mod safetensors;
mod tokenizer;

pub use atomic::{fsync_folder, sha256_file, write_atomic};
pub use config::{DecoderConfig, Gpt2Config, ModelConfig, RopeScaling};
pub use error::FormatsError;
pub use model_files::ModelFiles;
pub use peft::{AdapterConfig, TargetModules};
pub use safetensors::{NamedTensor, SafetensorsFile, TensorInfo, write_safetensors};
pub use tokenizer::Tokenizer;
