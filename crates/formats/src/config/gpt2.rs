//! GPT-2: LayerNorm with bias, learned positions, Conv1D weights stored [in, out], GELU, a tied head, dropouts of its own.
//! Radford et al., 2019; keys, their second names and defaults as in transformers 5 (`GPT2Config`).

use super::activation::{GeluForm, gelu};
use super::family::{Family, Preset};
use super::most;
use super::spec::{BlockSpec, Dropouts, Mlp, ModelConfig, Names, Norm, NormPlaces, Positions, Projections};
use crate::FormatsError;
use crate::keys::Keys;

pub(super) const GPT2: Family = Family { model_type: "gpt2", title: "GPT-2", read, presets: &PRESETS };

const NAMES: Names = Names {
    outer: "transformer",
    embedding: "wte",
    layers: "h",
    final_norm: "ln_f",
    head: "lm_head",
    attention: "attn",
    output: "c_proj",
    attention_norms: NormPlaces::before("ln_1"),
    mlp: "mlp",
    mlp_norms: NormPlaces::before("ln_2"),
};

fn read(keys: &Keys<'_>) -> Result<ModelConfig, FormatsError> {
    let size = |key, other_name, default, most| keys.size_by_either([key, other_name], default, most);
    let hidden_size = size("n_embd", "hidden_size", 768, most::WIDTH)?;
    let heads = size("n_head", "num_attention_heads", 12, most::HEADS)?;
    if !hidden_size.is_multiple_of(heads) {
        return Err(keys.error("n_embd", format!("is {hidden_size}, not a multiple of n_head = {heads}")));
    }
    only_what_is_supported(keys)?;
    Ok(ModelConfig {
        family: "gpt2",
        vocab_size: keys.size("vocab_size", 50257, most::VOCAB)?,
        hidden_size,
        intermediate_size: keys.size("n_inner", 4 * hidden_size, most::INNER)?,
        num_hidden_layers: size("n_layer", "num_hidden_layers", 12, most::LAYERS)?,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim: hidden_size / heads,
        embedding_multiplier: 1.0,
        rounded_embedding_multiplier: false,
        positions: Positions::Learned("wpe"),
        max_position_embeddings: size("n_positions", "max_position_embeddings", 1024, most::POSITIONS)?,
        sliding_window: None,
        tie_word_embeddings: keys.flag("tie_word_embeddings", true)?,
        dropout: Dropouts {
            embedding: keys.probability("embd_pdrop", 0.1)?,
            attention: keys.probability("attn_pdrop", 0.1)?,
            residual: keys.probability("resid_pdrop", 0.1)?,
        },
        block: BlockSpec {
            names: NAMES,
            norm: Norm::Layer,
            norm_eps: keys.positive("layer_norm_epsilon", 1e-5)?,
            projections: Projections::Fused("c_attn"),
            qkv_bias: true,
            qk_norm: None,
            attention_scale: None,
            attention_softcap: None,
            output_bias: true,
            mlp: Mlp::Plain { up: "c_fc", down: "c_proj", gelu: gelu(keys, "activation_function", GeluForm::Tanh)? },
            mlp_bias: true,
            experts: None,
            residual_multiplier: 1.0,
            parallel_residual: false,
            weights_in_out: true,
        },
        logits_divisor: 1.0,
        logits_softcap: None,
        head_bias: false,
        bos_token_ids: keys.token_ids("bos_token_id", Some(50256))?,
        eos_token_ids: keys.token_ids("eos_token_id", Some(50256))?,
    })
}

fn only_what_is_supported(keys: &Keys<'_>) -> Result<(), FormatsError> {
    if !keys.flag("scale_attn_weights", true)? {
        return Err(keys.error("scale_attn_weights", "is false; only scaled attention is supported"));
    }
    if keys.flag("scale_attn_by_inverse_layer_idx", false)? {
        let problem = "is true; only attention scaled alike in all layers is supported";
        return Err(keys.error("scale_attn_by_inverse_layer_idx", problem));
    }
    if keys.flag("add_cross_attention", false)? {
        return Err(keys.error("add_cross_attention", "is true; only decoders alone are supported"));
    }
    Ok(())
}

const PRESETS: [Preset; 2] = [
    Preset {
        name: "gpt2",
        parameters: 124_439_808,
        config: r#"{"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "eos_token_id": 50256}"#,
    },
    Preset {
        name: "gpt2-medium",
        parameters: 354_823_168,
        config: r#"{"model_type": "gpt2", "n_embd": 1024, "n_layer": 24, "n_head": 16, "eos_token_id": 50256}"#,
    },
];
