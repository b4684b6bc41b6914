//! Mistral: Llama without biases, with a sliding window in every layer. Jiang et al., *Mistral 7B*, 2023; keys and
//! defaults as in transformers 5 (`MistralConfig`).

use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::llama;
use super::sliding_window::SlidingWindow;
use super::spec::ModelConfig;
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const MISTRAL: Family = Family { model_type: DEFAULTS.family, title: "Mistral", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "mistral",
    intermediate_size: 14336,
    num_key_value_heads: Some(8),
    max_position_embeddings: 4096 * 32,
    ..llama::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    Ok(ModelConfig { sliding_window: SlidingWindow::of_all_layers(keys)?, ..decoder::read(keys, &DEFAULTS)? })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "mistral-7b",
    parameters: 7_241_732_096,
    config: r#"{"model_type": "mistral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0, "sliding_window": 4096, "max_position_embeddings": 32768, "eos_token_id": 2,
        "torch_dtype": "bfloat16"}"#,
}];
