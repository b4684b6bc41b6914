//! GPT-2: LayerNorm with bias, learned positions, Conv1D weights stored [in, out], GELU by tanh, a tied head.
//! Radford et al., 2019; transformers' modeling_gpt2. Its own dropouts apply in training, as its configuration says.

use crate::ModelError;
use crate::build::{Heads, Hidden, ModelBuilder};
use remat_formats::Gpt2Config;
use remat_ir::ops::{Add, Embedding, Gelu, LayerNorm, Layout, Split};
use remat_ir::{IrError, ValueId};

const LINEARS: [&str; 4] = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"];

pub(super) fn linear_names(config: &Gpt2Config) -> Vec<String> {
    let of_layer = |layer| LINEARS.iter().map(move |linear| format!("transformer.h.{layer}.{linear}"));
    (0..config.n_layer).flat_map(of_layer).collect()
}

pub(super) fn forward(config: &Gpt2Config, m: &mut ModelBuilder<'_>) -> Result<Hidden, ModelError> {
    let width = config.n_embd;
    let tokens = m.parameter("transformer.wte.weight", &[config.vocab_size, width]);
    let positions = m.parameter("transformer.wpe.weight", &[config.n_positions, width]);
    let token = m.b.op1("transformer.wte", Embedding, &[tokens, m.inputs.ids])?;
    let position = m.b.op1("transformer.wpe", Embedding, &[positions, m.inputs.positions])?;
    let x = m.b.op1("transformer.embed", Add, &[token, position])?;
    let mut x = m.dropout("transformer.drop", x, config.embd_pdrop as f32)?;
    for layer in 0..config.n_layer {
        let path = format!("transformer.h.{layer}");
        m.b.enter_region(&path);
        let block = block(config, m, &path, x);
        m.b.leave_region();
        x = block?;
    }
    let hidden = norm(config, m, "transformer.ln_f", x)?;
    let head =
        if config.tie_word_embeddings { tokens } else { m.parameter("lm_head.weight", &[config.vocab_size, width]) };
    Ok(Hidden { hidden, head })
}

fn norm(config: &Gpt2Config, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<ValueId, IrError> {
    let weight = m.parameter(&format!("{path}.weight"), &[config.n_embd]);
    let bias = m.parameter(&format!("{path}.bias"), &[config.n_embd]);
    m.b.op1(path, LayerNorm { eps: config.layer_norm_epsilon as f32 }, &[x, weight, bias])
}

fn block(config: &Gpt2Config, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<ValueId, IrError> {
    let (width, inner, resid) = (config.n_embd, config.n_inner, config.resid_pdrop as f32);
    let normed = norm(config, m, &format!("{path}.ln_1"), x)?;
    let attended = attention(config, m, &format!("{path}.attn"), normed)?;
    let attended = m.dropout(&format!("{path}.attn.resid_dropout"), attended, resid)?;
    let x = m.b.op1(&format!("{path}.attn_residual"), Add, &[x, attended])?;
    let normed = norm(config, m, &format!("{path}.ln_2"), x)?;
    let mlp = format!("{path}.mlp");
    let inner_x = m.linear(&format!("{mlp}.c_fc"), normed, (width, inner), true, Layout::InOut)?;
    let activated = m.b.op1(&format!("{mlp}.act"), Gelu, &[inner_x])?;
    let out = m.linear(&format!("{mlp}.c_proj"), activated, (inner, width), true, Layout::InOut)?;
    let out = m.dropout(&format!("{mlp}.dropout"), out, resid)?;
    m.b.op1(&format!("{path}.mlp_residual"), Add, &[x, out])
}

fn attention(config: &Gpt2Config, m: &mut ModelBuilder<'_>, path: &str, x: ValueId) -> Result<ValueId, IrError> {
    let width = config.n_embd;
    let qkv = m.linear(&format!("{path}.c_attn"), x, (width, 3 * width), true, Layout::InOut)?;
    let qkv = m.b.op(&format!("{path}.qkv"), Split { sizes: vec![width; 3] }, &[qkv])?;
    let heads = Heads {
        heads: config.n_head,
        kv_heads: config.n_head,
        head_size: width / config.n_head,
        window: None,
        dropout: config.attn_pdrop as f32,
    };
    let o = m.attention(&format!("{path}.attention"), heads, [qkv[0], qkv[1], qkv[2]])?;
    m.linear(&format!("{path}.c_proj"), o, (width, width), true, Layout::InOut)
}
