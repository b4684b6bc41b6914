//! `config.json` of a model folder, by architecture. Defaults are those of transformers' configuration classes.
//!
//! Invariant: a configuration that parses is one that can be built: sizes are positive and bounded, heads divide, and
//! everything unsupported was refused by name.

mod decoder;
mod gpt2;
mod keys;

pub use decoder::{DecoderConfig, RopeScaling};
pub use gpt2::Gpt2Config;

use crate::FormatsError;
use keys::Keys;
use std::path::Path;

/// Supported values of `model_type`.
const SUPPORTED: &str = "llama, gpt2";

/// The configuration of one supported architecture.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelConfig {
    /// Llama.
    Llama(DecoderConfig),
    /// GPT-2.
    Gpt2(Gpt2Config),
}

impl ModelConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// A missing or malformed file, an unknown architecture, a key out of range.
    pub fn from_dir(folder: &Path) -> Result<Self, FormatsError> {
        let path = folder.join("config.json");
        let text = std::fs::read_to_string(&path).map_err(FormatsError::io(&path, "read the model's configuration"))?;
        ModelConfig::parse(&path, &text)
    }

    /// Parses the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`ModelConfig::from_dir`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, FormatsError> {
        let json: serde_json::Value =
            serde_json::from_str(text).map_err(|error| FormatsError::malformed(path, error.to_string()))?;
        let keys = Keys::new(path, &json)?;
        match keys.string("model_type")?.as_deref() {
            Some("llama") => Ok(ModelConfig::Llama(DecoderConfig::llama(&keys)?)),
            Some("gpt2") => Ok(ModelConfig::Gpt2(Gpt2Config::parse(&keys)?)),
            Some(other) => {
                let problem =
                    format!("is \"{other}\", an architecture that is not supported; supported are {SUPPORTED}");
                Err(FormatsError::key(path, "model_type", problem))
            }
            None => Err(FormatsError::key(path, "model_type", format!("is missing; supported are {SUPPORTED}"))),
        }
    }

    /// `model_type`.
    pub fn family(&self) -> &'static str {
        match self {
            ModelConfig::Llama(_) => "llama",
            ModelConfig::Gpt2(_) => "gpt2",
        }
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        match self {
            ModelConfig::Llama(config) => config.vocab_size,
            ModelConfig::Gpt2(config) => config.vocab_size,
        }
    }

    /// Ids that end a sequence.
    pub fn eos_token_ids(&self) -> &[u32] {
        match self {
            ModelConfig::Llama(config) => &config.eos_token_ids,
            ModelConfig::Gpt2(config) => &config.eos_token_ids,
        }
    }
}
