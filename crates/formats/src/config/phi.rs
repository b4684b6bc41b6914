//! Phi-1, 1.5 and 2: LayerNorm, biases everywhere, the head included, a part of each head rotated, and an MLP that reads what
//! attention reads. Gunasekar et al., *Textbooks are all you need*, 2023; keys and defaults as in transformers 5 (`PhiConfig`).

use super::activation::{GeluForm, gelu};
use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::llama;
use super::rope;
use super::spec::{BlockSpec, Dropouts, Mlp, ModelConfig, Names, Norm, NormPlaces};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const PHI: Family =
    Family { model_type: DEFAULTS.family, title: "Phi 1, 1.5 and 2", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "phi",
    vocab_size: 51200,
    hidden_size: 2048,
    intermediate_size: 8192,
    num_hidden_layers: 24,
    num_attention_heads: 32,
    max_position_embeddings: 2048,
    bos_token_id: Some(1),
    eos_token_id: Some(2),
    rope: |keys, context| rope::of_parts(keys, context, 0.5),
    ..llama::DEFAULTS
};

const NAMES: Names = Names {
    final_norm: "final_layernorm",
    output: "dense",
    // One norm for both parts of a block.
    mlp_norms: NormPlaces { before: None, after: None },
    ..decoder::NAMES
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    if keys.flag("qk_layernorm", false)? {
        return Err(keys.error("qk_layernorm", "is true; LayerNorms of single heads of q and k are not supported"));
    }
    let config = decoder::read_but_activation(keys, &DEFAULTS)?;
    let block = BlockSpec {
        names: NAMES,
        norm: Norm::Layer,
        norm_eps: keys.positive("layer_norm_eps", 1e-5)?,
        qkv_bias: true,
        output_bias: true,
        mlp: Mlp::Plain { up: "fc1", down: "fc2", gelu: gelu(keys, "hidden_act", GeluForm::Tanh)? },
        mlp_bias: true,
        parallel_residual: true,
        ..config.block
    };
    let dropout = Dropouts {
        embedding: keys.probability("embd_pdrop", 0.0)?,
        residual: keys.probability("resid_pdrop", 0.0)?,
        ..config.dropout
    };
    Ok(ModelConfig { block, dropout, head_bias: true, ..config })
}

const PRESETS: [Preset; 2] = [
    Preset {
        name: "phi-1.5",
        parameters: 1_418_270_720,
        config: r#"{"model_type": "phi", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
            "num_attention_heads": 32, "vocab_size": 51200, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.5, "rope_theta": 10000, "max_position_embeddings": 2048,
            "tie_word_embeddings": false, "torch_dtype": "float16"}"#,
    },
    Preset {
        name: "phi-2",
        parameters: 2_779_683_840,
        config: r#"{"model_type": "phi", "hidden_size": 2560, "intermediate_size": 10240, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 51200, "hidden_act": "gelu_new", "layer_norm_eps": 1e-5,
            "partial_rotary_factor": 0.4, "rope_theta": 10000, "max_position_embeddings": 2048,
            "tie_word_embeddings": false, "bos_token_id": 50256, "eos_token_id": 50256, "torch_dtype": "float16"}"#,
    },
];
