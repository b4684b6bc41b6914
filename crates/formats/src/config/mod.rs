//! `config.json` of a model folder, by architecture. Defaults are those of transformers' configuration classes.
//!
//! Invariant: a configuration that parses is one that can be built: sizes are positive and bounded so that no product
//! of them overflows 64 bits, heads divide, and everything unsupported was refused by name. `decoder` has the
//! Llama-like families, `gpt2` GPT-2.

mod decoder;
mod gpt2;
mod sliding_window;

pub use decoder::{DecoderConfig, RopeScaling};
pub use gpt2::Gpt2Config;
pub use sliding_window::{SlidingWindow, WindowedLayers};

use crate::FormatsError;
use crate::error::excerpt;
use crate::json::{self, CONFIG_LIMIT_BYTES};
use crate::keys::Keys;
use crate::own_files;
use std::path::Path;

/// Supported values of `model_type`.
const SUPPORTED: &str = "llama, mistral, qwen2, qwen3, gpt2";

/// Bounds, generous for any model that exists; above them a file is corrupt. With them the parameters of a model are
/// below 2^60: vocabulary x width 2^46, and per layer 4 x 2^40 in attention and 3 x 2^42 in the MLP, times 2^12 layers.
mod most {
    pub const VOCAB: usize = 1 << 26;
    pub const WIDTH: usize = 1 << 20;
    pub const INNER: usize = 1 << 22;
    pub const LAYERS: usize = 1 << 12;
    pub const HEADS: usize = 1 << 14;
    pub const POSITIONS: usize = 1 << 30;
}

/// The configuration of one supported architecture.
#[derive(Debug, Clone, PartialEq)]
pub enum ModelConfig {
    /// Llama.
    Llama(DecoderConfig),
    /// Mistral.
    Mistral(DecoderConfig),
    /// Qwen 2 and 2.5.
    Qwen2(DecoderConfig),
    /// Qwen 3.
    Qwen3(DecoderConfig),
    /// GPT-2.
    Gpt2(Gpt2Config),
}

/// Refuses every quantisation but bitsandbytes' NF4 and int8; what holds for each weight stands beside it in the files.
fn is_supported(keys: &Keys<'_>) -> Result<(), FormatsError> {
    let expect = |key, wanted: &str, default| {
        let found = keys.string(key)?.or(default).unwrap_or("missing");
        if found == wanted {
            return Ok(());
        }
        let problem = format!(
            "is {:?}; weights quantised otherwise than to bitsandbytes' nf4 or int8 are not supported; use the \
             unquantised model",
            excerpt(found)
        );
        Err(keys.error(key, problem))
    };
    expect("quant_method", "bitsandbytes", None)?;
    if keys.flag("load_in_8bit", false)? {
        return Ok(());
    }
    expect("bnb_4bit_quant_type", "nf4", Some("fp4"))?;
    if !keys.flag("load_in_4bit", false)? {
        return Err(keys.error("load_in_4bit", "must be true, or load_in_8bit; use the unquantised model"));
    }
    Ok(())
}

impl ModelConfig {
    /// Reads `config.json` of a folder.
    ///
    /// # Errors
    /// A missing or malformed file, an unknown architecture, a key out of range.
    pub fn from_dir(folder: &Path) -> Result<Self, FormatsError> {
        let path = folder.join("config.json");
        let remedy = "give the folder of a model as Hugging Face writes it, with config.json in it";
        let text = json::read_text(&path, CONFIG_LIMIT_BYTES, own_files::remedy(folder, remedy))?;
        ModelConfig::parse(&path, &text)
    }

    /// Parses the text of a `config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`ModelConfig::from_dir`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, FormatsError> {
        let json: serde_json::Value = json::parse(path, text)?;
        let keys = Keys::new(path, &json)?;
        let parsed = match keys.string("model_type")? {
            Some("llama") => ModelConfig::Llama(DecoderConfig::parse(&keys, &decoder::LLAMA)?),
            Some("mistral") => ModelConfig::Mistral(DecoderConfig::parse(&keys, &decoder::MISTRAL)?),
            Some("qwen2") => ModelConfig::Qwen2(DecoderConfig::parse(&keys, &decoder::QWEN2)?),
            Some("qwen3") => ModelConfig::Qwen3(DecoderConfig::parse(&keys, &decoder::QWEN3)?),
            Some("gpt2") => ModelConfig::Gpt2(Gpt2Config::parse(&keys)?),
            Some(other) => {
                let other = excerpt(other);
                let problem = format!("is {other:?}, an architecture that is not supported; supported are {SUPPORTED}");
                return Err(keys.error("model_type", problem));
            }
            None => return Err(keys.error("model_type", format!("is missing; supported are {SUPPORTED}"))),
        };
        if let Some(quantization) = keys.object("quantization_config")? {
            is_supported(&quantization)?;
        }
        Ok(parsed)
    }

    /// `model_type`.
    pub fn family(&self) -> &'static str {
        match self {
            ModelConfig::Llama(_) => "llama",
            ModelConfig::Mistral(_) => "mistral",
            ModelConfig::Qwen2(_) => "qwen2",
            ModelConfig::Qwen3(_) => "qwen3",
            ModelConfig::Gpt2(_) => "gpt2",
        }
    }

    /// The configuration of a Llama-like family; `None` for GPT-2.
    pub fn decoder(&self) -> Option<&DecoderConfig> {
        match self {
            ModelConfig::Llama(config)
            | ModelConfig::Mistral(config)
            | ModelConfig::Qwen2(config)
            | ModelConfig::Qwen3(config) => Some(config),
            ModelConfig::Gpt2(_) => None,
        }
    }

    /// The same without any dropout in training.
    pub fn without_dropout(self) -> Self {
        let off = |config: DecoderConfig| DecoderConfig { attention_dropout: 0.0, ..config };
        match self {
            ModelConfig::Llama(config) => ModelConfig::Llama(off(config)),
            ModelConfig::Mistral(config) => ModelConfig::Mistral(off(config)),
            ModelConfig::Qwen2(config) => ModelConfig::Qwen2(off(config)),
            ModelConfig::Qwen3(config) => ModelConfig::Qwen3(off(config)),
            ModelConfig::Gpt2(config) => {
                ModelConfig::Gpt2(Gpt2Config { embd_pdrop: 0.0, resid_pdrop: 0.0, attn_pdrop: 0.0, ..config })
            }
        }
    }

    /// Number of token ids.
    pub fn vocab_size(&self) -> usize {
        self.each(|decoder| decoder.vocab_size, |gpt2| gpt2.vocab_size)
    }

    /// Longest sequence the model was made for, in tokens.
    pub fn max_positions(&self) -> usize {
        self.each(|decoder| decoder.max_position_embeddings, |gpt2| gpt2.n_positions)
    }

    /// Ids that end a sequence.
    pub fn eos_token_ids(&self) -> &[u32] {
        self.each(|decoder| &decoder.eos_token_ids[..], |gpt2| &gpt2.eos_token_ids)
    }

    /// Ids that begin a sequence.
    pub fn bos_token_ids(&self) -> &[u32] {
        self.each(|decoder| &decoder.bos_token_ids[..], |gpt2| &gpt2.bos_token_ids)
    }

    fn each<'a, T>(
        &'a self,
        decoder: impl FnOnce(&'a DecoderConfig) -> T,
        gpt2: impl FnOnce(&'a Gpt2Config) -> T,
    ) -> T {
        match self {
            ModelConfig::Llama(config)
            | ModelConfig::Mistral(config)
            | ModelConfig::Qwen2(config)
            | ModelConfig::Qwen3(config) => decoder(config),
            ModelConfig::Gpt2(config) => gpt2(config),
        }
    }
}
