//! GPT-NeoX, which Pythia is: LayerNorm, a part of each head rotated, queries, keys and values of each head in one linear, and
//! an MLP that reads what the block reads. Black et al., *GPT-NeoX-20B*, 2022; Biderman et al., *Pythia*, 2023; keys and defaults
//! as in transformers 5 (`GPTNeoXConfig`).

use super::activation::{GeluForm, gelu};
use super::decoder::{self, Defaults};
use super::family::{Family, Preset};
use super::llama;
use super::rope::{self, Dialect};
use super::spec::{BlockSpec, Dropouts, Mlp, ModelConfig, Names, Norm, NormPlaces, Projections};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const GPT_NEOX: Family =
    Family { model_type: DEFAULTS.family, title: "GPT-NeoX, Pythia", read, presets: &PRESETS };

const DEFAULTS: Defaults = Defaults {
    family: "gpt_neox",
    vocab_size: 50432,
    hidden_size: 6144,
    intermediate_size: 24576,
    num_hidden_layers: 44,
    num_attention_heads: 64,
    bos_token_id: Some(0),
    rope: |keys, context| rope::of(keys, context, &DIALECT),
    ..llama::DEFAULTS
};

const DIALECT: Dialect = Dialect { beside: ["rotary_emb_base", "rotary_pct"], part: Some(0.25), long_rope_only: None };

const NAMES: Names = Names {
    outer: "gpt_neox",
    embedding: "embed_in",
    layers: "layers",
    final_norm: "final_layer_norm",
    head: "embed_out",
    attention: "attention",
    output: "dense",
    attention_norms: NormPlaces::before("input_layernorm"),
    mlp: "mlp",
    mlp_norms: NormPlaces::before("post_attention_layernorm"),
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let config = decoder::read_but_activation(keys, &DEFAULTS)?;
    if config.num_key_value_heads != config.num_attention_heads {
        let problem = "differs from num_attention_heads; this architecture has as many";
        return Err(keys.error("num_key_value_heads", problem));
    }
    let bias = keys.flag("attention_bias", true)?;
    let gelu = gelu(keys, "hidden_act", GeluForm::Exact)?;
    let hidden_dropout = keys.probability("hidden_dropout", 0.0)?;
    let block = BlockSpec {
        names: NAMES,
        norm: Norm::Layer,
        norm_eps: keys.positive("layer_norm_eps", 1e-5)?,
        projections: Projections::FusedByHead("query_key_value"),
        qkv_bias: bias,
        output_bias: bias,
        mlp: Mlp::Plain { up: "dense_h_to_4h", down: "dense_4h_to_h", gelu },
        mlp_bias: true,
        parallel_residual: keys.flag("use_parallel_residual", true)?,
        ..config.block
    };
    let dropout = Dropouts { embedding: hidden_dropout, residual: hidden_dropout, ..config.dropout };
    Ok(ModelConfig { block, dropout, ..config })
}

const PRESETS: [Preset; 3] = [
    Preset {
        name: "pythia-160m",
        parameters: 162_322_944,
        config: r#"{"model_type": "gpt_neox", "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
            "num_attention_heads": 12, "vocab_size": 50304, "hidden_act": "gelu", "rotary_pct": 0.25,
            "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "max_position_embeddings": 2048,
            "tie_word_embeddings": false, "use_parallel_residual": true, "bos_token_id": 0, "eos_token_id": 0,
            "torch_dtype": "float16"}"#,
    },
    Preset {
        name: "pythia-1.4b",
        parameters: 1_414_647_808,
        config: r#"{"model_type": "gpt_neox", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 24,
            "num_attention_heads": 16, "vocab_size": 50304, "hidden_act": "gelu", "rotary_pct": 0.25,
            "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "max_position_embeddings": 2048,
            "tie_word_embeddings": false, "use_parallel_residual": true, "bos_token_id": 0, "eos_token_id": 0,
            "torch_dtype": "float16"}"#,
    },
    Preset {
        name: "pythia-6.9b",
        parameters: 6_857_302_016,
        config: r#"{"model_type": "gpt_neox", "hidden_size": 4096, "intermediate_size": 16384, "num_hidden_layers": 32,
            "num_attention_heads": 32, "vocab_size": 50432, "hidden_act": "gelu", "rotary_pct": 0.25,
            "rotary_emb_base": 10000, "layer_norm_eps": 1e-5, "max_position_embeddings": 2048,
            "tie_word_embeddings": false, "use_parallel_residual": true, "bos_token_id": 0, "eos_token_id": 0,
            "torch_dtype": "float16"}"#,
    },
];
