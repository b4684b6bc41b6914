//! OLMo 2: Llama with its norms behind attention and MLP instead of before them, and an RMSNorm of all queries and of all
//! keys together. OLMo team, *2 OLMo 2 Furious*, 2024; keys and defaults as in transformers 5 (`Olmo2Config`).

use super::decoder::{self, Defaults, NAMES};
use super::family::{Family, Preset};
use super::llama;
use super::spec::{BlockSpec, ModelConfig, Names, NormPlaces, QkNorm};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const OLMO2: Family = Family { model_type: DEFAULTS.family, title: "OLMo 2", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "olmo2",
    vocab_size: 50304,
    rms_norm_eps: 1e-5,
    bos_token_id: None,
    eos_token_id: Some(50279),
    ..llama::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let bias = keys.flag("attention_bias", false)?;
    let names = Names {
        attention_norms: NormPlaces::after("post_attention_layernorm"),
        mlp_norms: NormPlaces::after("post_feedforward_layernorm"),
        ..NAMES
    };
    let block = BlockSpec { names, qkv_bias: bias, output_bias: bias, qk_norm: Some(QkNorm::Width), ..config.block };
    Ok(ModelConfig { block, ..config })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "olmo2-7b",
    parameters: 7_298_617_344,
    config: r#"{"model_type": "olmo2", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 100352, "rms_norm_eps": 1e-6,
        "rope_theta": 500000.0, "tie_word_embeddings": false, "max_position_embeddings": 4096, "eos_token_id": 100257}"#,
}];
