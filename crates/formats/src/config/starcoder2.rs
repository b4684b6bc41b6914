//! StarCoder 2: LayerNorm, biases everywhere, grouped queries, a plain MLP, and a window in every layer. Lozhkov et al.,
//! *StarCoder 2 and The Stack v2*, 2024; keys and defaults as in transformers 5 (`Starcoder2Config`).

use super::activation::{GeluForm, gelu};
use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::sliding_window::{SlidingWindow, WindowedLayers};
use super::spec::{BlockSpec, Dropouts, Mlp, ModelConfig, Norm};
use super::{llama, most};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const STARCODER2: Family =
    Family { model_type: DEFAULTS.family, title: "StarCoder 2", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "starcoder2",
    vocab_size: 49152,
    hidden_size: 3072,
    intermediate_size: 12288,
    num_hidden_layers: 30,
    num_attention_heads: 24,
    num_key_value_heads: Some(2),
    max_position_embeddings: 4096,
    tie_word_embeddings: true,
    bos_token_id: Some(50256),
    eos_token_id: Some(50256),
    ..llama::DEFAULTS
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read_but_activation(keys, &DEFAULTS)?;
    let bias = keys.flag("use_bias", true)?;
    let block = BlockSpec {
        norm: Norm::Layer,
        norm_eps: keys.positive("norm_epsilon", 1e-5)?,
        qkv_bias: bias,
        output_bias: bias,
        mlp: Mlp::Plain { up: "c_fc", down: "c_proj", gelu: gelu(keys, "hidden_act", GeluForm::Tanh)? },
        mlp_bias: bias,
        ..config.block
    };
    let window = keys.maybe_size("sliding_window", most::POSITIONS)?;
    let sliding_window = window.map(|tokens| SlidingWindow { tokens, layers: WindowedLayers::From(0) });
    let dropout = Dropouts {
        embedding: keys.probability("embedding_dropout", 0.0)?,
        residual: keys.probability("residual_dropout", 0.0)?,
        ..config.dropout
    };
    Ok(ModelConfig { block, sliding_window, dropout, ..config })
}

const PRESETS: [Preset; 2] = [
    Preset {
        name: "starcoder2-3b",
        parameters: 3_030_371_328,
        config: r#"{"model_type": "starcoder2", "hidden_size": 3072, "intermediate_size": 12288, "num_hidden_layers": 30,
            "num_attention_heads": 24, "num_key_value_heads": 2, "vocab_size": 49152, "norm_epsilon": 1e-5,
            "hidden_act": "gelu_pytorch_tanh", "rope_theta": 999999.4420358813, "sliding_window": 4096,
            "use_bias": true, "attention_dropout": 0.1, "residual_dropout": 0.1, "embedding_dropout": 0.1,
            "max_position_embeddings": 16384, "bos_token_id": 0, "eos_token_id": 0}"#,
    },
    Preset {
        name: "starcoder2-7b",
        parameters: 7_173_923_840,
        config: r#"{"model_type": "starcoder2", "hidden_size": 4608, "intermediate_size": 18432, "num_hidden_layers": 32,
            "num_attention_heads": 36, "num_key_value_heads": 4, "vocab_size": 49152, "norm_epsilon": 1e-5,
            "hidden_act": "gelu_pytorch_tanh", "rope_theta": 1000000, "sliding_window": 4096, "use_bias": true,
            "attention_dropout": 0.1, "residual_dropout": 0.1, "embedding_dropout": 0.1,
            "max_position_embeddings": 16384, "bos_token_id": 0, "eos_token_id": 0, "torch_dtype": "bfloat16"}"#,
    },
];
