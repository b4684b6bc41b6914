//! Qwen 1.5 and 2 with experts: Qwen 2 with many small experts and one that every token has, times a gate of its own. Qwen team,
//! *Qwen1.5-MoE*, 2024; keys and defaults as in transformers 5 (`Qwen2MoeConfig`), names as in published checkpoints.

use super::decoder::{self, Defaults};
use super::experts::{self, Experts};
use super::family::{Family, Preset};
use super::most;
use super::qwen2;
use super::sliding_window::{SlidingWindow, WindowedLayers};
use super::spec::{BlockSpec, ModelConfig};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const QWEN2_MOE: Family =
    Family { model_type: DEFAULTS.family, title: "Qwen 1.5 and 2 with experts", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "qwen2_moe",
    hidden_size: 2048,
    intermediate_size: 5632,
    num_hidden_layers: 24,
    num_attention_heads: 16,
    num_key_value_heads: Some(16),
    ..qwen2::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let layers = config.num_hidden_layers;
    let window = SlidingWindow::of_some_layers(keys, layers)?;
    let sliding_window = window.map(|window| SlidingWindow { layers: windowed(window.layers, layers), ..window });
    let defaults = experts::Defaults { count: ("num_experts", 60), per_token: 4 };
    let experts = Experts {
        inner_size: keys.size("moe_intermediate_size", 1408, most::INNER)?,
        normalised: keys.flag("norm_topk_prob", false)?,
        shared_inner_size: Some(keys.size("shared_expert_intermediate_size", 5632, most::INNER)?),
        layers: experts::sparse_layers(keys, layers)?,
        ..experts::read(keys, &defaults, layers)?
    };
    let block =
        BlockSpec { qkv_bias: keys.flag("qkv_bias", true)?, experts: Some(experts.bounded(keys)?), ..config.block };
    Ok(ModelConfig { sliding_window, block, ..config })
}

/// The layers with the window: those listed, or else every other one of the first `max_window_layers`.
fn windowed(of: WindowedLayers, layers: usize) -> WindowedLayers {
    match of {
        WindowedLayers::From(end) => {
            WindowedLayers::Listed((0..layers).map(|layer| layer.is_multiple_of(2) && layer < end).collect())
        }
        listed @ WindowedLayers::Listed(_) => listed,
    }
}

const PRESETS: [Preset; 1] = [Preset {
    name: "qwen1.5-moe-a2.7b",
    parameters: 14_315_784_192,
    config: r#"{"model_type": "qwen2_moe", "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 24,
        "num_attention_heads": 16, "num_key_value_heads": 16, "vocab_size": 151936, "num_experts": 60,
        "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
        "norm_topk_prob": false, "decoder_sparse_step": 1, "output_router_logits": false, "router_aux_loss_coef": 0.001,
        "rms_norm_eps": 1e-6, "rope_theta": 1000000.0, "use_sliding_window": false, "max_position_embeddings": 8192,
        "bos_token_id": 151643, "eos_token_id": 151643, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#,
}];
