//! Qwen 2 and 2.5: Llama with biases of q, k and v, never of the output, and windows in some layers. Yang et al., *Qwen2
//! technical report*, 2024; keys and defaults as in transformers 5 (`Qwen2Config`).

use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::llama;
use super::sliding_window::SlidingWindow;
use super::spec::{BlockSpec, ModelConfig};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const QWEN2: Family =
    Family { model_type: DEFAULTS.family, title: "Qwen 2 and 2.5", read, presets: &PRESETS };

/// Those that Qwen 3 starts from.
pub(super) const DEFAULTS: Defaults = Defaults {
    family: "qwen2",
    vocab_size: 151_936,
    intermediate_size: 22016,
    num_key_value_heads: Some(32),
    max_position_embeddings: 32768,
    bos_token_id: None,
    eos_token_id: None,
    ..llama::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let sliding_window = SlidingWindow::of_some_layers(keys, config.num_hidden_layers)?;
    Ok(ModelConfig { sliding_window, block: BlockSpec { qkv_bias: true, ..config.block }, ..config })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "qwen2.5-0.5b",
    parameters: 494_032_768,
    config: r#"{"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24,
        "num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "tie_word_embeddings": true, "max_position_embeddings": 32768,
        "use_sliding_window": false, "eos_token_id": 151643, "torch_dtype": "bfloat16"}"#,
}];
