//! Gemma 2: Gemma with norms before and behind both parts of a block, soft caps of scores and logits, and a window in every
//! other layer. Gemma team, *Gemma 2*, 2024; keys and defaults as in transformers 5 (`Gemma2Config`).

use super::activation::{GeluForm, gelu};
use super::decoder::{Defaults, NAMES};
use super::family::{Family, Preset};
use super::gemma;
use super::sliding_window::SlidingWindow;
use super::spec::{BlockSpec, ModelConfig, Names, NormPlaces};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const GEMMA2: Family = Family { model_type: DEFAULTS.family, title: "Gemma 2", read, presets: &PRESETS };

/// Those that Gemma 3 starts from.
pub(super) const DEFAULTS: Defaults = Defaults {
    family: "gemma2",
    hidden_size: 2304,
    intermediate_size: 9216,
    num_hidden_layers: 26,
    num_attention_heads: 8,
    num_key_value_heads: Some(4),
    ..gemma::DEFAULTS
};

/// In which every norm of a block has its place.
const NORMS: Names = Names {
    attention_norms: NormPlaces { before: Some("input_layernorm"), after: Some("post_attention_layernorm") },
    mlp_norms: NormPlaces { before: Some("pre_feedforward_layernorm"), after: Some("post_feedforward_layernorm") },
    ..NAMES
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = of(keys, &DEFAULTS, [Some(50.0), Some(30.0)])?;
    let every_other: Vec<bool> = (0..config.num_hidden_layers).map(|layer| layer % 2 == 0).collect();
    let sliding_window = SlidingWindow::of_layer_types(keys, &every_other)?;
    Ok(ModelConfig { sliding_window, ..config })
}

/// What Gemma 2 and 3 share but for windows, with the soft caps of scores and logits where no key says them.
pub(super) fn of(keys: &Keys<'_>, defaults: &Defaults, caps: [Option<f64>; 2]) -> Result<ModelConfig, FormatsError> {
    let config = gemma::of(keys, defaults, gelu(keys, "hidden_activation", GeluForm::Tanh)?)?;
    let [scores, logits] = caps;
    let cap = |key, default| if keys.has(key) { keys.maybe_positive(key) } else { Ok(default) };
    let block = BlockSpec {
        names: NORMS,
        attention_scale: Some(keys.positive("query_pre_attn_scalar", 256.0)?.powf(-0.5)),
        attention_softcap: cap("attn_logit_softcapping", scores)?,
        ..config.block
    };
    Ok(ModelConfig { block, logits_softcap: cap("final_logit_softcapping", logits)?, ..config })
}

const PRESETS: [Preset; 2] = [
    Preset {
        name: "gemma2-2b",
        parameters: 2_614_341_888,
        config: r#"{"model_type": "gemma2", "hidden_size": 2304, "intermediate_size": 9216, "num_hidden_layers": 26,
            "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 256, "vocab_size": 256000,
            "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "sliding_window": 4096, "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": [1, 107],
            "torch_dtype": "bfloat16"}"#,
    },
    Preset {
        name: "gemma2-9b",
        parameters: 9_241_705_984,
        config: r#"{"model_type": "gemma2", "hidden_size": 3584, "intermediate_size": 14336, "num_hidden_layers": 42,
            "num_attention_heads": 16, "num_key_value_heads": 8, "head_dim": 256, "vocab_size": 256000,
            "hidden_activation": "gelu_pytorch_tanh", "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
            "query_pre_attn_scalar": 256, "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
            "sliding_window": 4096, "max_position_embeddings": 8192, "bos_token_id": 2, "eos_token_id": 1,
            "torch_dtype": "bfloat16"}"#,
    },
];
