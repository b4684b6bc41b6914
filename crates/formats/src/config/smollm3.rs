//! SmolLM 3: Llama with some layers, every fourth if no list says otherwise, whose queries and keys are not rotated.
//! Hugging Face, 2025; Yang et al., *RoPE to NoPE and back again*, 2025; keys and defaults as in transformers 5
//! (`SmolLM3Config`).

use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::rotary::Rotary;
use super::sliding_window::SlidingWindow;
use super::spec::{BlockSpec, ModelConfig, Positions};
use super::{llama, most};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const SMOLLM3: Family = Family { model_type: DEFAULTS.family, title: "SmolLM 3", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "smollm3",
    vocab_size: 128_256,
    hidden_size: 2048,
    num_hidden_layers: 36,
    num_attention_heads: 16,
    num_key_value_heads: Some(4),
    rope_theta: 2_000_000.0,
    tie_word_embeddings: true,
    max_position_embeddings: 32768,
    bos_token_id: Some(128_000),
    eos_token_id: Some(128_001),
    ..llama::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let bias = keys.flag("attention_bias", false)?;
    let block =
        BlockSpec { qkv_bias: bias, output_bias: bias, mlp_bias: keys.flag("mlp_bias", false)?, ..config.block };
    let unrotated = unrotated_layers(keys, config.num_hidden_layers)?;
    let window = match keys.flag("use_sliding_window", false)? {
        true => keys.maybe_size("sliding_window", most::POSITIONS)?,
        false => None,
    };
    let sliding_window = SlidingWindow::of_listed_layers(keys, window, &unrotated)?;
    let positions = match config.positions {
        Positions::Rotary(rotary) => Positions::Rotary(Rotary { unrotated_layers: unrotated, ..rotary }),
        learned @ Positions::Learned(_) => learned,
    };
    Ok(ModelConfig { positions, sliding_window, block, ..config })
}

/// For each layer whether it is left out of the rotation.
fn unrotated_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>, FormatsError> {
    let key = "no_rope_layers";
    let Some(value) = keys.value(key) else {
        let interval = keys.size("no_rope_layer_interval", 4, most::LAYERS)?;
        return Ok((1..=layers).map(|layer| layer.is_multiple_of(interval)).collect());
    };
    let rotated = value.as_array().and_then(|list| list.iter().map(|flag| flag.as_u64()).collect::<Option<Vec<_>>>());
    match rotated {
        Some(rotated) if rotated.len() >= layers => Ok(rotated[..layers].iter().map(|&flag| flag == 0).collect()),
        _ => Err(keys.error(key, format!("must be a list of {layers} zeros and ones, one per layer"))),
    }
}

const PRESETS: [Preset; 1] = [Preset {
    name: "smollm3-3b",
    parameters: 3_075_098_624,
    config: r#"{"model_type": "smollm3", "hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36,
        "num_attention_heads": 16, "num_key_value_heads": 4, "vocab_size": 128256, "rms_norm_eps": 1e-6,
        "rope_theta": 5000000.0, "no_rope_layer_interval": 4, "tie_word_embeddings": true,
        "max_position_embeddings": 65536, "eos_token_id": 128012, "torch_dtype": "bfloat16"}"#,
}];
