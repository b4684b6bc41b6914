//! What the Llama-like families share in their keys: sizes, heads, rotary positions, the gated MLP.
//!
//! Keys, defaults and precedence as in transformers 5. What a family has of its own, it adds in its own file to what
//! [`read`] returns: a block of Llama's without biases, every token seeing all before it.

use super::activation::{Activation, silu};
use super::most;
use super::rope::Context;
use super::rotary::Rotary;
use super::spec::{BlockSpec, Dropouts, Mlp, ModelConfig, Names, Norm, NormPlaces, Positions, Projections};
use crate::FormatsError;
use crate::keys::Keys;

/// What is taken where a key is absent, and the family's name.
pub(super) struct Defaults {
    pub family: &'static str,
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    /// Key and value heads; a `null`, and `None` here, mean as many as query heads.
    pub num_key_value_heads: Option<usize>,
    /// `None` is the width over the heads.
    pub head_dim: Option<usize>,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    /// Reads the rotary positions.
    pub rope: fn(&Keys<'_>, &Context) -> Result<Rotary, FormatsError>,
    pub max_position_embeddings: usize,
    pub tie_word_embeddings: bool,
    pub bos_token_id: Option<u32>,
    pub eos_token_id: Option<u32>,
}

/// Llama's names.
pub(super) const NAMES: Names = Names {
    outer: "model",
    embedding: "embed_tokens",
    layers: "layers",
    final_norm: "norm",
    head: "lm_head",
    attention: "self_attn",
    output: "o_proj",
    attention_norms: NormPlaces::before("input_layernorm"),
    mlp: "mlp",
    mlp_norms: NormPlaces::before("post_attention_layernorm"),
};

/// Reads the keys that all of them have; the gate of the MLP goes through SiLU, and nothing else is taken.
pub(super) fn read(keys: &Keys<'_>, defaults: &Defaults) -> Result<ModelConfig, FormatsError> {
    silu(keys, "hidden_act")?;
    read_but_activation(keys, defaults)
}

/// The same without a look at the activation, which the family's own file reads.
pub(super) fn read_but_activation(keys: &Keys<'_>, defaults: &Defaults) -> Result<ModelConfig, FormatsError> {
    let hidden_size = keys.size("hidden_size", defaults.hidden_size, most::WIDTH)?;
    let heads = keys.size("num_attention_heads", defaults.num_attention_heads, most::HEADS)?;
    let kv_heads = match defaults.num_key_value_heads {
        Some(default) if !keys.has("num_key_value_heads") => default,
        _ => keys.size("num_key_value_heads", heads, most::HEADS)?,
    };
    if !heads.is_multiple_of(kv_heads) {
        let problem = format!("is {kv_heads}, which does not divide num_attention_heads = {heads}");
        return Err(keys.error("num_key_value_heads", problem));
    }
    let head_dim = head_dim(keys, hidden_size, heads, defaults.head_dim)?;
    let max_position_embeddings =
        keys.size("max_position_embeddings", defaults.max_position_embeddings, most::POSITIONS)?;
    let context = Context { head_dim, max_position_embeddings, default_theta: defaults.rope_theta };
    let rotary = (defaults.rope)(keys, &context)?;
    Ok(ModelConfig {
        family: defaults.family,
        vocab_size: keys.size("vocab_size", defaults.vocab_size, most::VOCAB)?,
        hidden_size,
        intermediate_size: keys.size("intermediate_size", defaults.intermediate_size, most::INNER)?,
        num_hidden_layers: keys.size("num_hidden_layers", defaults.num_hidden_layers, most::LAYERS)?,
        num_attention_heads: heads,
        num_key_value_heads: kv_heads,
        head_dim,
        embedding_multiplier: 1.0,
        rounded_embedding_multiplier: false,
        positions: Positions::Rotary(rotary),
        max_position_embeddings,
        sliding_window: None,
        tie_word_embeddings: keys.flag("tie_word_embeddings", defaults.tie_word_embeddings)?,
        dropout: Dropouts { attention: keys.probability("attention_dropout", 0.0)?, ..Dropouts::default() },
        block: block(keys.positive("rms_norm_eps", defaults.rms_norm_eps)?),
        logits_divisor: 1.0,
        logits_softcap: None,
        head_bias: false,
        bos_token_ids: keys.token_ids("bos_token_id", defaults.bos_token_id)?,
        eos_token_ids: keys.token_ids("eos_token_id", defaults.eos_token_id)?,
    })
}

fn block(norm_eps: f64) -> BlockSpec {
    BlockSpec {
        names: NAMES,
        norm: Norm::Rms,
        norm_eps,
        projections: Projections::Separate(["q_proj", "k_proj", "v_proj"]),
        qkv_bias: false,
        qk_norm: None,
        attention_scale: None,
        attention_softcap: None,
        output_bias: false,
        mlp: Mlp::Gated { inner: ["gate_proj", "up_proj"], down: "down_proj", activation: Activation::Silu },
        mlp_bias: false,
        experts: None,
        residual_multiplier: 1.0,
        parallel_residual: false,
        weights_in_out: false,
    }
}

/// The explicit head size, or what the width leaves for each head.
fn head_dim(keys: &Keys<'_>, hidden_size: usize, heads: usize, default: Option<usize>) -> Result<usize, FormatsError> {
    let head_dim = match keys.maybe_size("head_dim", most::WIDTH)?.or(default) {
        Some(size) => size,
        None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
        None => {
            let problem = format!("is {hidden_size}, not a multiple of num_attention_heads = {heads}");
            return Err(keys.error("hidden_size", problem));
        }
    };
    if !head_dim.is_multiple_of(2) {
        return Err(keys.error("head_dim", format!("is {head_dim}; rotary positions need an even head size")));
    }
    if head_dim * heads > most::WIDTH {
        let problem = format!("is {heads}; that many heads of size {head_dim} are wider than {}", most::WIDTH);
        return Err(keys.error("num_attention_heads", problem));
    }
    Ok(head_dim)
}
