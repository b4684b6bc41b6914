//! StableLM: Llama with LayerNorm, biases of q, k and v by configuration, and a part of each head rotated; some have an MLP that
//! reads what attention reads. Bellagente et al., *Stable LM 2 1.6B*, 2024; keys and defaults as in transformers 5
//! (`StableLmConfig`).

use super::decoder::{self, Defaults, NAMES};
use super::family::{Family, Preset};
use super::llama;
use super::rope;
use super::spec::{BlockSpec, ModelConfig, Names, Norm, NormPlaces};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const STABLELM: Family = Family { model_type: DEFAULTS.family, title: "StableLM", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "stablelm",
    vocab_size: 50304,
    hidden_size: 2560,
    intermediate_size: 6912,
    num_key_value_heads: Some(32),
    max_position_embeddings: 4096,
    bos_token_id: Some(0),
    eos_token_id: Some(0),
    rope: |keys, context| rope::of_parts(keys, context, 0.25),
    ..llama::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    if keys.flag("qk_layernorm", false)? {
        return Err(keys.error("qk_layernorm", "is true; LayerNorms of single heads of q and k are not supported"));
    }
    if keys.probability("hidden_dropout", 0.0)? != 0.0 {
        return Err(keys.error("hidden_dropout", "is not 0; dropout of the MLP alone is not supported"));
    }
    let config = decoder::read(keys, &DEFAULTS)?;
    let parallel_residual = keys.flag("use_parallel_residual", false)?;
    // What reads attention's own operand has no norm of its own.
    let mlp_norms = if parallel_residual { NormPlaces { before: None, after: None } } else { NAMES.mlp_norms };
    let block = BlockSpec {
        names: Names { mlp_norms, ..NAMES },
        norm: Norm::Layer,
        norm_eps: keys.positive("layer_norm_eps", 1e-5)?,
        qkv_bias: keys.flag("use_qkv_bias", false)?,
        parallel_residual,
        ..config.block
    };
    Ok(ModelConfig { block, ..config })
}

const PRESETS: [Preset; 2] = [
    Preset {
        name: "stablelm-2-1.6b",
        parameters: 1_644_515_328,
        config: r#"{"model_type": "stablelm", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 100352, "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.25, "rope_theta": 10000, "use_qkv_bias": true, "tie_word_embeddings": false,
            "max_position_embeddings": 4096, "bos_token_id": 100257, "eos_token_id": 100257,
            "torch_dtype": "float16"}"#,
    },
    Preset {
        name: "stablelm-3b",
        parameters: 2_795_443_200,
        config: r#"{"model_type": "stablelm", "hidden_size": 2560, "intermediate_size": 6912, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 50304, "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.25, "rope_theta": 10000, "use_qkv_bias": false, "tie_word_embeddings": false,
            "max_position_embeddings": 4096, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16"}"#,
    },
];
