//! Mixtral: Mistral with eight experts in every layer, of which each token has two. Jiang et al., *Mixtral of experts*, 2024; keys and
//! defaults as in transformers 5 (`MixtralConfig`), names as in published checkpoints.

use super::activation::Activation;
use super::decoder::{self, Defaults};
use super::experts::{self, Experts};
use super::family::{Family, Preset};
use super::llama;
use super::sliding_window::SlidingWindow;
use super::spec::{BlockSpec, Mlp, ModelConfig, Names};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const MIXTRAL: Family = Family { model_type: DEFAULTS.family, title: "Mixtral", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "mixtral",
    intermediate_size: 14336,
    num_key_value_heads: Some(8),
    max_position_embeddings: 4096 * 32,
    rms_norm_eps: 1e-5,
    rope_theta: 1e6,
    ..llama::DEFAULTS
};

const NAMES: Names = Names { mlp: "block_sparse_moe", ..decoder::NAMES };

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    if keys.maybe_number("router_jitter_noise")?.is_some_and(|noise| noise != 0.0) {
        return Err(keys.error("router_jitter_noise", "is not 0; noise on what routers read is not supported"));
    }
    let defaults = experts::Defaults { count: ("num_local_experts", 8), per_token: 2 };
    let experts = experts::read(keys, &defaults, config.num_hidden_layers)?;
    let block = BlockSpec {
        names: NAMES,
        mlp: Mlp::Gated { inner: ["w1", "w3"], down: "w2", activation: Activation::Silu },
        experts: Some(Experts { inner_size: config.intermediate_size, ..experts }.bounded(keys)?),
        ..config.block
    };
    // Without the key there is no window, unlike Mistral.
    let sliding_window = if keys.has("sliding_window") { SlidingWindow::of_all_layers(keys)? } else { None };
    Ok(ModelConfig { sliding_window, block, ..config })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "mixtral-8x7b",
    parameters: 46_702_792_704,
    config: r#"{"model_type": "mixtral", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 32000, "num_local_experts": 8,
        "num_experts_per_tok": 2, "output_router_logits": false, "router_aux_loss_coef": 0.02, "rms_norm_eps": 1e-5,
        "rope_theta": 1000000.0, "sliding_window": null, "max_position_embeddings": 32768, "bos_token_id": 1,
        "eos_token_id": 2, "tie_word_embeddings": false, "torch_dtype": "bfloat16"}"#,
}];
