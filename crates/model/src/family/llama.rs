//! Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU. Touvron et al., 2023; transformers' modeling_llama.
//!
//! Optional parts follow the configuration: biases of attention and MLP, explicit head size, tied head, scaled rope.

use crate::ModelError;
use crate::build::{Hidden, ModelBuilder};
use crate::rope::INV_FREQ;
use remat_formats::DecoderConfig;
use remat_ir::ops::{Add, Attention, Embedding, Layout, RmsNorm, Rope, Swiglu};
use remat_ir::{IrError, Type, ValueId};
use remat_tensor::{DType, stream_of_name};

const LINEARS: [&str; 7] = [
    "self_attn.q_proj",
    "self_attn.k_proj",
    "self_attn.v_proj",
    "self_attn.o_proj",
    "mlp.gate_proj",
    "mlp.up_proj",
    "mlp.down_proj",
];

pub(super) fn linear_names(config: &DecoderConfig) -> Vec<String> {
    let of_layer = |layer| LINEARS.iter().map(move |linear| format!("model.layers.{layer}.{linear}"));
    (0..config.num_hidden_layers).flat_map(of_layer).collect()
}

pub(super) fn forward(config: &DecoderConfig, m: &mut ModelBuilder<'_>) -> Result<Hidden, ModelError> {
    let (vocab, width) = (config.vocab_size, config.hidden_size);
    let embed = m.parameter("model.embed_tokens.weight", &[vocab, width]);
    let inv_freq = m.b.weight(INV_FREQ, Type::new(DType::F32, [config.head_dim / 2]));
    let mut x = m.b.op1("model.embed_tokens", Embedding, &[embed, m.inputs.ids])?;
    for layer in 0..config.num_hidden_layers {
        let path = format!("model.layers.{layer}");
        m.b.enter_region(&path);
        let block = block(config, m, &path, x, inv_freq);
        m.b.leave_region();
        x = block?;
    }
    let hidden = norm(config, m, "model.norm", x)?;
    let head = if config.tie_word_embeddings { embed } else { m.parameter("lm_head.weight", &[vocab, width]) };
    Ok(Hidden { hidden, head })
}

fn norm(config: &DecoderConfig, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<ValueId, IrError> {
    let weight = m.parameter(&format!("{path}.weight"), &[config.hidden_size]);
    m.b.op1(path, RmsNorm { eps: config.rms_norm_eps as f32 }, &[x, weight])
}

fn block(
    config: &DecoderConfig,
    m: &mut ModelBuilder<'_>,
    path: &str,
    x: ValueId,
    inv_freq: ValueId,
) -> Result<ValueId, IrError> {
    let normed = norm(config, m, &format!("{path}.input_layernorm"), x)?;
    let attended = attention(config, m, &format!("{path}.self_attn"), normed, inv_freq)?;
    let x = m.b.op1(&format!("{path}.attn_residual"), Add, &[x, attended])?;
    let normed = norm(config, m, &format!("{path}.post_attention_layernorm"), x)?;
    let (width, inner, bias) = (config.hidden_size, config.intermediate_size, config.mlp_bias);
    let mlp = format!("{path}.mlp");
    let gate = m.linear(&format!("{mlp}.gate_proj"), normed, (width, inner), bias, Layout::OutIn)?;
    let up = m.linear(&format!("{mlp}.up_proj"), normed, (width, inner), bias, Layout::OutIn)?;
    let activated = m.b.op1(&format!("{mlp}.act"), Swiglu, &[gate, up])?;
    let down = m.linear(&format!("{mlp}.down_proj"), activated, (inner, width), bias, Layout::OutIn)?;
    m.b.op1(&format!("{path}.mlp_residual"), Add, &[x, down])
}

fn attention(
    config: &DecoderConfig,
    m: &mut ModelBuilder<'_>,
    path: &str,
    x: ValueId,
    inv_freq: ValueId,
) -> Result<ValueId, IrError> {
    let (width, head, bias) = (config.hidden_size, config.head_dim, config.attention_bias);
    let (queries, keys) = (config.num_attention_heads * head, config.num_key_value_heads * head);
    let q = m.linear(&format!("{path}.q_proj"), x, (width, queries), bias, Layout::OutIn)?;
    let k = m.linear(&format!("{path}.k_proj"), x, (width, keys), bias, Layout::OutIn)?;
    let v = m.linear(&format!("{path}.v_proj"), x, (width, keys), bias, Layout::OutIn)?;
    let rope = Rope { head_size: head, inverse: false, scale: 1.0 };
    let q = m.b.op1(&format!("{path}.q_rope"), rope.clone(), &[q, m.inputs.positions, inv_freq])?;
    let k = m.b.op1(&format!("{path}.k_rope"), rope, &[k, m.inputs.positions, inv_freq])?;
    let (dropout, rng) = m.inner_dropout(config.attention_dropout as f32);
    let name = format!("{path}.attention");
    let op = Attention {
        heads: config.num_attention_heads,
        kv_heads: config.num_key_value_heads,
        scale: 1.0 / (head as f32).sqrt(),
        window: None,
        dropout,
        stream: stream_of_name(&name),
    };
    let mut operands = vec![q, k, v, m.inputs.segment_start];
    operands.extend(rng);
    let o = m.b.op1(&name, op, &operands)?;
    m.linear(&format!("{path}.o_proj"), o, (queries, width), bias, Layout::OutIn)
}
