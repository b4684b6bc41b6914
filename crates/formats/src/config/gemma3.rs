//! Gemma 3, its text model: Gemma 2 without soft caps, with an RMSNorm of single heads of q and k, and with windows in all but
//! every sixth layer; layers with a window have wavelengths of their own. Gemma team, *Gemma 3*, 2025; keys and defaults as in
//! transformers 5 (`Gemma3TextConfig`).
//!
//! Files of transformers 5 have an object of rotary parameters for each kind of layer in `rope_parameters`, older ones
//! `rope_theta`, `rope_scaling` and `rope_local_base_freq`.

use super::decoder::Defaults;
use super::family::{Family, Preset};
use super::rope::{self, Context};
use super::rotary::{RopeScaling, Rotary};
use super::sliding_window::SlidingWindow;
use super::spec::{BlockSpec, ModelConfig, QkNorm};
use super::{gemma2, most};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const GEMMA3: Family =
    Family { model_type: DEFAULTS.family, title: "Gemma 3, text", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "gemma3_text",
    vocab_size: 262_208,
    max_position_embeddings: 131_072,
    rope_theta: 1_000_000.0,
    rope,
    ..gemma2::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = gemma2::of(keys, &DEFAULTS, [None, None])?;
    let pattern = keys.size("sliding_window_pattern", 6, most::LAYERS)?;
    let all_but_some: Vec<bool> = (1..=config.num_hidden_layers).map(|layer| !layer.is_multiple_of(pattern)).collect();
    let sliding_window = SlidingWindow::of_layer_types(keys, &all_but_some)?;
    Ok(ModelConfig { sliding_window, block: BlockSpec { qk_norm: Some(QkNorm::Head), ..config.block }, ..config })
}

/// Rotary positions of layers that see everything, and the base of those that have the window.
fn rope(keys: &Keys<'_>, context: &Context) -> Result<Rotary, FormatsError> {
    let parameters = keys.object("rope_parameters")?;
    let of_kind = |kind| parameters.as_ref().map_or(Ok(None), |parameters| parameters.object(kind));
    let (full, sliding) = (of_kind("full_attention")?, of_kind("sliding_attention")?);
    if let Some(parameters) = &parameters
        && let Some((key, _)) = parameters.entries().find(|(_, value)| !value.is_object())
    {
        let problem = "stands beside no kind of layer; this architecture has full_attention and sliding_attention";
        return Err(parameters.error(key, problem));
    }
    let theta = keys.positive("rope_theta", context.default_theta)?;
    let stretching = keys.object("rope_scaling")?;
    if let (Some(_), Some(full)) = (&stretching, &full) {
        let problem = "and rope_scaling are both there; keep one of them";
        return Err(full.error("rope_type", problem));
    }
    let rotary = match stretching.or(full) {
        Some(parameters) => rope::of_object(keys, &parameters, theta, context)?,
        None => Rotary::plain(theta, RopeScaling::None, context.head_dim),
    };
    let local_theta = keys.positive("rope_local_base_freq", 10_000.0)?;
    let local_theta = match sliding {
        None => local_theta,
        Some(parameters) => {
            let local = rope::of_object(keys, &parameters, local_theta, context)?;
            if local.scaling != RopeScaling::None {
                return Err(
                    parameters.error("rope_type", "stretches layers with a window; only \"default\" is supported")
                );
            }
            local.theta
        }
    };
    Ok(Rotary { local_theta: Some(local_theta), ..rotary })
}

const PRESETS: [Preset; 1] = [Preset {
    name: "gemma3-1b",
    parameters: 999_885_952,
    config: r#"{"model_type": "gemma3_text", "hidden_size": 1152, "intermediate_size": 6912, "num_hidden_layers": 26,
        "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 256, "vocab_size": 262144,
        "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 1000000,
        "rope_local_base_freq": 10000, "query_pre_attn_scalar": 256, "sliding_window": 512, "sliding_window_pattern": 6,
        "max_position_embeddings": 32768, "bos_token_id": 2, "eos_token_id": [1, 106], "torch_dtype": "bfloat16"}"#,
}];
