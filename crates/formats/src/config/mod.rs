//! `config.json` of a model folder, by architecture. Defaults are those of transformers' configuration classes.
//!
//! Invariant: a configuration that parses is one that can be built: sizes are positive and bounded so that no product
//! of them overflows 64 bits, heads divide, and everything unsupported was refused by name. A family is one file and its
//! line in [`FAMILIES`]; `spec` says what a family can choose, `decoder` what the Llama-like ones share.

mod activation;
mod decoder;
mod experts;
mod family;
mod gemma;
mod gemma2;
mod gemma3;
mod gpt2;
mod gpt_neox;
mod granite;
mod llama;
mod mistral;
mod mixtral;
mod most;
mod olmo2;
mod phi;
mod phi3;
mod qwen2;
mod qwen2_moe;
mod qwen3;
mod qwen3_moe;
mod rope;
mod rotary;
mod sliding_window;
mod smollm3;
mod spec;
mod stablelm;
mod starcoder2;
mod stored_dtype;

pub use activation::{Activation, GeluForm};
pub use experts::Experts;
pub use family::Preset;
pub use rotary::{RopeScaling, Rotary};
pub use sliding_window::{SlidingWindow, WindowedLayers};
pub use spec::{BlockSpec, Dropouts, Mlp, ModelConfig, Names, Norm, NormPlaces, Positions, Projections, QkNorm};

use crate::FormatsError;
use crate::error::excerpt;
use crate::json::{self, CONFIG_LIMIT_BYTES};
use crate::keys::Keys;
use crate::own_files;
use family::Family;
use std::path::Path;

/// The supported families, in the order that messages and lists name them in.
const FAMILIES: &[Family] = &[
    llama::LLAMA,
    mistral::MISTRAL,
    mixtral::MIXTRAL,
    qwen2::QWEN2,
    qwen2_moe::QWEN2_MOE,
    qwen3::QWEN3,
    qwen3_moe::QWEN3_MOE,
    olmo2::OLMO2,
    granite::GRANITE,
    smollm3::SMOLLM3,
    gemma::GEMMA,
    gemma2::GEMMA2,
    gemma3::GEMMA3,
    phi::PHI,
    phi3::PHI3,
    stablelm::STABLELM,
    starcoder2::STARCODER2,
    gpt_neox::GPT_NEOX,
    gpt2::GPT2,
];

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
        let supported = || FAMILIES.iter().map(|family| family.model_type).collect::<Vec<_>>().join(", ");
        let Some(model_type) = keys.string("model_type")? else {
            return Err(keys.error("model_type", format!("is missing; supported are {}", supported())));
        };
        let Some(family) = FAMILIES.iter().find(|family| family.model_type == model_type) else {
            let (other, supported) = (excerpt(model_type), supported());
            let problem = format!("is {other:?}, an architecture that is not supported; supported are {supported}");
            return Err(keys.error("model_type", problem));
        };
        let parsed = (family.read)(&keys)?;
        match keys.string("transformers_weights")? {
            None | Some("model.safetensors" | "model.safetensors.index.json") => {}
            Some(other) => {
                let problem = format!("is {:?}; weights are read from model.safetensors or its index", excerpt(other));
                return Err(keys.error("transformers_weights", problem));
            }
        }
        if let Some(quantization) = keys.object("quantization_config")? {
            is_supported(&quantization)?;
        }
        Ok(parsed)
    }

    /// The published shapes that are known by name, family by family.
    pub fn presets() -> impl Iterator<Item = &'static Preset> {
        FAMILIES.iter().flat_map(|family| family.presets)
    }

    /// Each family: its `model_type`, what people call it, and its presets.
    pub fn families() -> impl Iterator<Item = (&'static str, &'static str, &'static [Preset])> {
        FAMILIES.iter().map(|family| (family.model_type, family.title, family.presets))
    }
}
