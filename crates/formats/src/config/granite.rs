//! Granite 3: Llama with four factors: of the embedding, of attention's scores (in place of 1/√E), of what attention and MLP
//! add, and a divisor of the logits. IBM, 2024; keys and defaults as in transformers 5 (`GraniteConfig`).

use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::llama;
use super::spec::{BlockSpec, ModelConfig};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const GRANITE: Family = Family { model_type: DEFAULTS.family, title: "Granite 3", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults { family: "granite", ..llama::DEFAULTS };

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let bias = keys.flag("attention_bias", false)?;
    let block = BlockSpec {
        qkv_bias: bias,
        output_bias: bias,
        attention_scale: Some(keys.positive("attention_multiplier", 1.0)?),
        mlp_bias: keys.flag("mlp_bias", false)?,
        residual_multiplier: keys.positive("residual_multiplier", 1.0)?,
        ..config.block
    };
    Ok(ModelConfig {
        block,
        embedding_multiplier: keys.positive("embedding_multiplier", 1.0)?,
        logits_divisor: keys.positive("logits_scaling", 1.0)?,
        ..config
    })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "granite-3.1-2b",
    parameters: 2_533_531_648,
    config: r#"{"model_type": "granite", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 40,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 49155, "rms_norm_eps": 1e-5,
        "rope_theta": 5000000.0, "tie_word_embeddings": true, "max_position_embeddings": 131072,
        "embedding_multiplier": 12.0, "attention_multiplier": 0.015625, "residual_multiplier": 0.22,
        "logits_scaling": 8.0, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16"}"#,
}];
