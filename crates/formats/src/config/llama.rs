//! Llama: RMSNorm before attention and MLP, rotary positions, grouped queries, a gated MLP; biases by configuration.
//! Touvron et al., 2023; keys and defaults as in transformers 5 (`LlamaConfig`).

use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::rope;
use super::spec::{BlockSpec, ModelConfig};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const LLAMA: Family = Family { model_type: DEFAULTS.family, title: "Llama 1 to 3", read, presets: &PRESETS };

/// Those that other families start from.
pub(super) const DEFAULTS: Defaults = Defaults {
    family: "llama",
    vocab_size: 32000,
    hidden_size: 4096,
    intermediate_size: 11008,
    num_hidden_layers: 32,
    num_attention_heads: 32,
    num_key_value_heads: None,
    head_dim: None,
    rms_norm_eps: 1e-6,
    rope_theta: 10_000.0,
    rope: rope::of_whole_heads,
    max_position_embeddings: 2048,
    tie_word_embeddings: false,
    bos_token_id: Some(1),
    eos_token_id: Some(2),
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let bias = keys.flag("attention_bias", false)?;
    let mlp_bias = keys.flag("mlp_bias", false)?;
    Ok(ModelConfig { block: BlockSpec { qkv_bias: bias, output_bias: bias, mlp_bias, ..config.block }, ..config })
}

const PRESETS: [Preset; 5] = [
    Preset {
        name: "llama-160m",
        parameters: 162_417_408,
        config: r#"{"model_type": "llama", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "vocab_size": 32000, "rms_norm_eps": 1e-6, "max_position_embeddings": 2048,
            "eos_token_id": 2}"#,
    },
    Preset {
        name: "tinyllama-1.1b",
        parameters: 1_100_048_384,
        config: r#"{"model_type": "llama", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22,
            "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 32000, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 2048, "eos_token_id": 2, "torch_dtype": "bfloat16"}"#,
    },
    Preset {
        name: "llama-2-7b",
        parameters: 6_738_415_616,
        config: r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 32000, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096,
            "eos_token_id": 2, "torch_dtype": "float16"}"#,
    },
    Preset {
        name: "llama-3.1-8b",
        parameters: 8_030_261_248,
        config: r#"{"model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "max_position_embeddings": 131072,
            "eos_token_id": 128001, "torch_dtype": "bfloat16"}"#,
    },
    Preset {
        name: "llama-3.1-70b",
        parameters: 70_553_706_496,
        config: r#"{"model_type": "llama", "hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80,
            "num_attention_heads": 64, "num_key_value_heads": 8, "vocab_size": 128256, "rms_norm_eps": 1e-5,
            "rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}, "max_position_embeddings": 131072,
            "eos_token_id": 128001, "torch_dtype": "bfloat16"}"#,
    },
];
