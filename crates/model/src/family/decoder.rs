//! The Llama-like block: RMSNorm, rotary positions, grouped-query attention, SwiGLU. Where families differ is [`Traits`],
//! which each family's own file fills in.
//!
//! Invariant: sizes, windows, the tied head and scaled rope follow the configuration; a trait adds parameters under the
//! checkpoint's own names.

use crate::ModelError;
use crate::build::{Heads, Hidden, ModelBuilder};
use crate::rope::INV_FREQ;
use remat_formats::DecoderConfig;
use remat_ir::ops::{Add, Embedding, Layout, RmsNorm, Rope, Swiglu};
use remat_ir::{IrError, Type, ValueId};
use remat_tensor::DType;

const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

/// Optional parts of a block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traits {
    /// Biases of the projections to q, k and v.
    pub qkv_bias: bool,
    /// Bias of attention's output projection.
    pub output_bias: bool,
    /// Biases of the MLP.
    pub mlp_bias: bool,
    /// RMSNorm of each head of q and k, before the rotation.
    pub qk_norm: bool,
}

/// One model's configuration and traits, and the values that all blocks read.
struct Decoder<'a> {
    config: &'a DecoderConfig,
    traits: Traits,
    inv_freq: ValueId,
}

pub(super) fn linear_names(config: &DecoderConfig) -> Vec<String> {
    let of_layer = |layer| LINEARS.iter().map(move |linear| format!("model.layers.{layer}.{linear}"));
    (0..config.num_hidden_layers).flat_map(of_layer).collect()
}

pub(super) fn forward(config: &DecoderConfig, traits: Traits, m: &mut ModelBuilder<'_>) -> Result<Hidden, ModelError> {
    let (vocab, width) = (config.vocab_size, config.hidden_size);
    let embed = m.parameter("model.embed_tokens.weight", &[vocab, width]);
    let inv_freq = m.b.weight(INV_FREQ, Type::new(DType::F32, [config.head_dim / 2]));
    let decoder = Decoder { config, traits, inv_freq };
    let mut x = m.b.op1("model.embed_tokens", Embedding, &[embed, m.inputs.ids])?;
    for layer in 0..config.num_hidden_layers {
        let path = format!("model.layers.{layer}");
        m.b.enter_region(&path);
        let block = decoder.block(m, layer, &path, x);
        m.b.leave_region();
        x = block?;
    }
    let hidden = decoder.norm(m, "model.norm", x, width)?;
    let head = if config.tie_word_embeddings { embed } else { m.parameter("lm_head.weight", &[vocab, width]) };
    Ok(Hidden { hidden, head })
}

impl Decoder<'_> {
    /// RMSNorm over groups of `width` elements.
    fn norm(&self, m: &mut ModelBuilder<'_>, path: &str, x: ValueId, width: usize) -> Result<ValueId, IrError> {
        let weight = m.parameter(&format!("{path}.weight"), &[width]);
        m.b.op1(path, RmsNorm { eps: self.config.rms_norm_eps as f32 }, &[x, weight])
    }

    fn block(&self, m: &mut ModelBuilder<'_>, layer: usize, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let (width, inner, bias) = (self.config.hidden_size, self.config.intermediate_size, self.traits.mlp_bias);
        let normed = self.norm(m, &format!("{path}.input_layernorm"), x, width)?;
        let attended = self.attention(m, layer, &format!("{path}.self_attn"), normed)?;
        let x = m.b.op1(&format!("{path}.attn_residual"), Add, &[x, attended])?;
        let normed = self.norm(m, &format!("{path}.post_attention_layernorm"), x, width)?;
        let mlp = format!("{path}.mlp");
        let gate = m.linear(&format!("{mlp}.gate_proj"), normed, (width, inner), bias, Layout::OutIn)?;
        let up = m.linear(&format!("{mlp}.up_proj"), normed, (width, inner), bias, Layout::OutIn)?;
        let activated = m.b.op1(&format!("{mlp}.act"), Swiglu, &[gate, up])?;
        let down = m.linear(&format!("{mlp}.down_proj"), activated, (inner, width), bias, Layout::OutIn)?;
        m.b.op1(&format!("{path}.mlp_residual"), Add, &[x, down])
    }

    fn attention(&self, m: &mut ModelBuilder<'_>, layer: usize, path: &str, x: ValueId) -> Result<ValueId, IrError> {
        let (config, Traits { qkv_bias, output_bias, .. }) = (self.config, self.traits);
        let (width, head) = (config.hidden_size, config.head_dim);
        let (queries, keys) = (config.num_attention_heads * head, config.num_key_value_heads * head);
        let q = m.linear(&format!("{path}.q_proj"), x, (width, queries), qkv_bias, Layout::OutIn)?;
        let k = m.linear(&format!("{path}.k_proj"), x, (width, keys), qkv_bias, Layout::OutIn)?;
        let v = m.linear(&format!("{path}.v_proj"), x, (width, keys), qkv_bias, Layout::OutIn)?;
        let q = self.turned(m, path, "q", q)?;
        let k = self.turned(m, path, "k", k)?;
        let heads = Heads {
            heads: config.num_attention_heads,
            kv_heads: config.num_key_value_heads,
            head_size: head,
            window: config.window(layer),
            dropout: config.attention_dropout as f32,
        };
        let o = m.attention(&format!("{path}.attention"), heads, [q, k, v])?;
        m.linear(&format!("{path}.o_proj"), o, (queries, width), output_bias, Layout::OutIn)
    }

    /// q or k with its norm, if the family has one, and its rotation.
    fn turned(&self, m: &mut ModelBuilder<'_>, path: &str, which: &str, x: ValueId) -> Result<ValueId, IrError> {
        let head = self.config.head_dim;
        let x = if self.traits.qk_norm { self.norm(m, &format!("{path}.{which}_norm"), x, head)? } else { x };
        let rope = Rope { head_size: head, inverse: false, scale: 1.0 };
        m.b.op1(&format!("{path}.{which}_rope"), rope, &[x, m.inputs.positions, self.inv_freq])
    }
}
