//! Qwen 3 with experts: Qwen 3 with many small experts in most layers. Yang et al., *Qwen3 technical report*, 2025; keys and defaults
//! as in transformers 5 (`Qwen3MoeConfig`), names as in published checkpoints.

use super::decoder::{self, Defaults};
use super::experts::{self, Experts};
use super::family::{Family, Preset};
use super::most;
use super::qwen2;
use super::sliding_window::{SlidingWindow, WindowedLayers};
use super::spec::{BlockSpec, ModelConfig, QkNorm};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const QWEN3_MOE: Family =
    Family { model_type: DEFAULTS.family, title: "Qwen 3 with experts", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "qwen3_moe",
    hidden_size: 2048,
    intermediate_size: 6144,
    num_hidden_layers: 24,
    num_key_value_heads: Some(4),
    ..qwen2::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let layers = config.num_hidden_layers;
    // A window is in all layers, whatever max_window_layers says.
    let window = SlidingWindow::of_some_layers(keys, layers)?;
    let sliding_window = window.map(|window| SlidingWindow { layers: WindowedLayers::From(0), ..window });
    let defaults = experts::Defaults { count: ("num_experts", 128), per_token: 8 };
    let experts = Experts {
        inner_size: keys.size("moe_intermediate_size", 768, most::INNER)?,
        normalised: keys.flag("norm_topk_prob", false)?,
        layers: experts::sparse_layers(keys, layers)?,
        ..experts::read(keys, &defaults, layers)?
    };
    let bias = keys.flag("attention_bias", false)?;
    let qk_norm = Some(QkNorm::Head);
    let block =
        BlockSpec { qkv_bias: bias, output_bias: bias, qk_norm, experts: Some(experts.bounded(keys)?), ..config.block };
    Ok(ModelConfig { sliding_window, block, ..config })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "qwen3-30b-a3b",
    parameters: 30_532_122_624,
    config: r#"{"model_type": "qwen3_moe", "hidden_size": 2048, "intermediate_size": 6144, "num_hidden_layers": 48,
        "num_attention_heads": 32, "num_key_value_heads": 4, "head_dim": 128, "vocab_size": 151936, "num_experts": 128,
        "num_experts_per_tok": 8, "moe_intermediate_size": 768, "norm_topk_prob": true, "decoder_sparse_step": 1,
        "mlp_only_layers": [], "output_router_logits": false, "router_aux_loss_coef": 0.001, "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0, "use_sliding_window": false, "max_position_embeddings": 40960, "bos_token_id": 151643,
        "eos_token_id": 151645, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#,
}];
