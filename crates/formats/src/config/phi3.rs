//! Phi 3 and Phi 4 mini: Llama with one linear for queries, keys and values and one for gate and up; a part of each head is
//! rotated, and `longrope` stretches. Abdin et al., *Phi-3 technical report*, 2024; keys and defaults as in transformers 5
//! (`Phi3Config`).

use super::activation::Activation;
use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::rope::{self, Dialect};
use super::sliding_window::{SlidingWindow, WindowedLayers};
use super::spec::{BlockSpec, Dropouts, Mlp, ModelConfig, Projections};
use super::{llama, most};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const PHI3: Family =
    Family { model_type: DEFAULTS.family, title: "Phi 3, Phi 4 and Phi 4 mini", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "phi3",
    vocab_size: 32064,
    hidden_size: 3072,
    intermediate_size: 8192,
    rms_norm_eps: 1e-5,
    max_position_embeddings: 4096,
    eos_token_id: Some(32000),
    rope: |keys, context| rope::of(keys, context, &DIALECT),
    ..llama::DEFAULTS
};

const DIALECT: Dialect =
    Dialect { beside: ["rope_theta", "partial_rotary_factor"], part: Some(1.0), long_rope_only: Some(4096) };

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read(keys, &DEFAULTS)?;
    let block = BlockSpec {
        projections: Projections::Fused("qkv_proj"),
        mlp: Mlp::GatedFused { inner: "gate_up_proj", down: "down_proj", activation: Activation::Silu },
        ..config.block
    };
    let window = keys.maybe_size("sliding_window", most::POSITIONS)?;
    let sliding_window = window.map(|tokens| SlidingWindow { tokens, layers: WindowedLayers::From(0) });
    let dropout = Dropouts { residual: keys.probability("resid_pdrop", 0.0)?, ..config.dropout };
    Ok(ModelConfig { block, sliding_window, dropout, ..config })
}

const PRESETS: [Preset; 2] = [
    Preset {
        name: "phi3-mini",
        parameters: 3_821_079_552,
        config: r#"{"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
            "num_attention_heads": 32, "num_key_value_heads": 32, "vocab_size": 32064, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "sliding_window": 2047, "tie_word_embeddings": false,
            "max_position_embeddings": 4096, "original_max_position_embeddings": 4096, "bos_token_id": 1,
            "eos_token_id": 32000, "torch_dtype": "bfloat16"}"#,
    },
    Preset {
        name: "phi4-mini",
        parameters: 3_836_021_760,
        config: r#"{"model_type": "phi3", "hidden_size": 3072, "intermediate_size": 8192, "num_hidden_layers": 32,
            "num_attention_heads": 24, "num_key_value_heads": 8, "vocab_size": 200064, "rms_norm_eps": 1e-5,
            "partial_rotary_factor": 0.75, "rope_theta": 10000.0, "rope_scaling": {"type": "longrope",
            "long_factor": [1, 1.118320672, 1.250641126, 1.398617824, 1.564103225, 1.74916897, 1.956131817, 2.187582649,
            2.446418898, 2.735880826, 3.059592084, 3.421605075, 3.826451687, 4.279200023, 4.785517845, 5.351743533,
            5.984965424, 6.693110555, 7.485043894, 8.370679318, 9.36110372, 10.4687158, 11.70738129, 13.09260651,
            14.64173252, 16.37415215, 18.31155283, 20.47818807, 22.90118105, 25.61086418, 28.64115884, 32.03, 32.1,
            32.13, 32.23, 32.6, 32.61, 32.64, 32.66, 32.7, 32.71, 32.93, 32.97, 33.28, 33.49, 33.5, 44.16, 47.77],
            "short_factor": [1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
            1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}, "sliding_window": 262144, "tie_word_embeddings": true,
            "max_position_embeddings": 131072, "original_max_position_embeddings": 4096, "bos_token_id": 199999,
            "eos_token_id": 199999, "torch_dtype": "bfloat16"}"#,
    },
];
