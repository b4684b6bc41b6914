//! Gemma: Llama with a gate that goes through GELU, norms whose factor is 1 + their weight, and embeddings times √hidden.
//! Gemma team, *Gemma*, 2024; keys and defaults as in transformers 5 (`GemmaConfig`).

use super::activation::{Activation, GeluForm, gelu};
use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::llama;
use super::spec::{BlockSpec, Mlp, ModelConfig, Norm};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const GEMMA: Family = Family { model_type: DEFAULTS.family, title: "Gemma", read, presets: &PRESETS };

/// Those that Gemma 2 and 3 start from.
pub(super) const DEFAULTS: Defaults = Defaults {
    family: "gemma",
    vocab_size: 256_000,
    hidden_size: 3072,
    intermediate_size: 24576,
    num_hidden_layers: 28,
    num_attention_heads: 16,
    num_key_value_heads: Some(16),
    head_dim: Some(256),
    max_position_embeddings: 8192,
    tie_word_embeddings: true,
    bos_token_id: Some(2),
    eos_token_id: Some(1),
    ..llama::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    // The first files say "gelu" and mean its tanh form, as transformers reads them.
    let form = match keys.string("hidden_act")? {
        Some("gelu") => GeluForm::Tanh,
        _ => gelu(keys, "hidden_act", GeluForm::Tanh)?,
    };
    of(keys, &DEFAULTS, form)
}

/// What all Gemmas have.
pub(super) fn of(keys: &Keys<'_>, defaults: &Defaults, form: GeluForm) -> Result<ModelConfig, FormatsError> {
    if keys.flag("use_bidirectional_attention", false)? {
        let problem = "is true; only attention to earlier tokens is supported";
        return Err(keys.error("use_bidirectional_attention", problem));
    }
    let config = decoder::read_but_activation(keys, defaults)?;
    let bias = keys.flag("attention_bias", false)?;
    let activation = Activation::Gelu(form);
    let block = BlockSpec {
        norm: Norm::RmsUnitOffset,
        qkv_bias: bias,
        output_bias: bias,
        mlp: Mlp::Gated { inner: ["gate_proj", "up_proj"], down: "down_proj", activation },
        ..config.block
    };
    let embedding_multiplier = (config.hidden_size as f64).sqrt();
    Ok(ModelConfig { block, embedding_multiplier, rounded_embedding_multiplier: true, ..config })
}

const PRESETS: [Preset; 2] = [
    Preset {
        name: "gemma-2b",
        parameters: 2_506_172_416,
        config: r#"{"model_type": "gemma", "hidden_size": 2048, "intermediate_size": 16384, "num_hidden_layers": 18,
            "num_attention_heads": 8, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 256000,
            "hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": 1, "torch_dtype": "bfloat16"}"#,
    },
    Preset {
        name: "gemma-7b",
        parameters: 8_537_680_896,
        config: r#"{"model_type": "gemma", "hidden_size": 3072, "intermediate_size": 24576, "num_hidden_layers": 28,
            "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 256, "vocab_size": 256000,
            "hidden_act": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": 1, "torch_dtype": "bfloat16"}"#,
    },
];
