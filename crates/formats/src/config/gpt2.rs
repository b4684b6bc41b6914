//! Configuration of GPT-2. Keys and defaults as in transformers 5 (`GPT2Config`).

use super::most;
use crate::FormatsError;
use crate::error::excerpt;
use crate::keys::Keys;

/// Configuration of one GPT-2 model. Fields are named as in `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct Gpt2Config {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Rows of the table of positions: the longest sequence, in tokens.
    pub n_positions: usize,
    /// Width of the residual stream.
    pub n_embd: usize,
    /// Blocks.
    pub n_layer: usize,
    /// Heads; divide the width.
    pub n_head: usize,
    /// Width of the MLP.
    pub n_inner: usize,
    /// Added to the variance under the root.
    pub layer_norm_epsilon: f64,
    /// Dropout of the embeddings in training.
    pub embd_pdrop: f64,
    /// Dropout of what attention and MLP add, in training.
    pub resid_pdrop: f64,
    /// Dropout of attention's probabilities in training.
    pub attn_pdrop: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Ids that begin a sequence.
    pub bos_token_ids: Vec<u32>,
    /// Ids that end a sequence.
    pub eos_token_ids: Vec<u32>,
}

impl Gpt2Config {
    pub(super) fn parse(keys: &Keys<'_>) -> Result<Self, FormatsError> {
        let (n_embd, n_head) = (keys.size("n_embd", 768, most::WIDTH)?, keys.size("n_head", 12, most::HEADS)?);
        if !n_embd.is_multiple_of(n_head) {
            return Err(keys.error("n_embd", format!("is {n_embd}, not a multiple of n_head = {n_head}")));
        }
        match keys.string("activation_function")? {
            // Two names of one function: GELU by tanh.
            None | Some("gelu_new" | "gelu_pytorch_tanh") => {}
            Some(other) => {
                let problem = format!("is {:?}; supported are gelu_new and gelu_pytorch_tanh", excerpt(other));
                return Err(keys.error("activation_function", problem));
            }
        }
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
        Ok(Gpt2Config {
            vocab_size: keys.size("vocab_size", 50257, most::VOCAB)?,
            n_positions: keys.size("n_positions", 1024, most::POSITIONS)?,
            n_embd,
            n_layer: keys.size("n_layer", 12, most::LAYERS)?,
            n_head,
            n_inner: keys.size("n_inner", 4 * n_embd, most::INNER)?,
            layer_norm_epsilon: keys.positive("layer_norm_epsilon", 1e-5)?,
            embd_pdrop: keys.probability("embd_pdrop", 0.1)?,
            resid_pdrop: keys.probability("resid_pdrop", 0.1)?,
            attn_pdrop: keys.probability("attn_pdrop", 0.1)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings", true)?,
            bos_token_ids: keys.token_ids("bos_token_id", Some(50256))?,
            eos_token_ids: keys.token_ids("eos_token_id", Some(50256))?,
        })
    }
}
