//! Known models as shapes alone, for tests of planning: no weights, no files.
#![allow(dead_code, reason = "each test binary uses its own part")]

use remat_formats::ModelConfig;
use remat_ir::Graph;
use remat_model::{BatchShape, LoraConfig, Method, Precision, training};
use remat_testkit::with_backward;
use std::path::Path;

/// `config.json` of a model with another number of layers.
pub struct Shape {
    pub name: &'static str,
    config: fn(usize) -> String,
}

pub const GPT2_MEDIUM: Shape = Shape { name: "gpt2-medium", config: gpt2_medium };
/// With so few words that the head does not hold the peak.
pub const GPT2_FEW_WORDS: Shape =
    Shape { name: "gpt2-few-words", config: |layers| gpt2_medium(layers).replace("50257", "512") };
pub const TINYLLAMA: Shape = Shape { name: "tinyllama-1.1b", config: |layers| llama(layers, 2048, 5632, 4, 32000) };
pub const LLAMA_8B: Shape = Shape { name: "llama-3.1-8b", config: |layers| llama(layers, 4096, 14336, 8, 128_256) };
pub const LLAMA_70B: Shape = Shape { name: "llama-3.1-70b", config: |layers| llama(layers, 8192, 28672, 8, 128_256) };

fn llama(layers: usize, width: usize, inner: usize, kv_heads: usize, vocab: usize) -> String {
    let heads = if width == 8192 { 64 } else { 32 };
    format!(
        r#"{{"model_type": "llama", "hidden_size": {width}, "intermediate_size": {inner}, "num_hidden_layers": {layers},
        "num_attention_heads": {heads}, "num_key_value_heads": {kv_heads}, "vocab_size": {vocab}}}"#
    )
}

fn gpt2_medium(layers: usize) -> String {
    format!(
        r#"{{"model_type": "gpt2", "n_embd": 1024, "n_layer": {layers}, "n_head": 16, "n_positions": 4096,
        "vocab_size": 50257, "attn_pdrop": 0.0, "resid_pdrop": 0.0, "embd_pdrop": 0.0}}"#
    )
}

impl Shape {
    /// One micro-step of LoRA (rank 16, all linears) on one row of `seq_len` tokens.
    pub fn lora(&self, layers: usize, seq_len: usize) -> Graph {
        let config = ModelConfig::parse(Path::new(self.name), &(self.config)(layers)).expect("a configuration");
        let lora = LoraConfig { rank: 16, alpha: 32.0, ..LoraConfig::default() };
        let training =
            training(&config, Precision::F32, &Method::Lora(lora), BatchShape { batch: 1, seq_len }).expect("a graph");
        with_backward(training)
    }
}
