//! Configuration of GPT-2.

use super::keys::Keys;
use crate::FormatsError;

/// Configuration of one GPT-2 model.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct Gpt2Config {
    pub vocab_size: usize,
    pub n_positions: usize,
    pub n_embd: usize,
    pub n_layer: usize,
    pub n_head: usize,
    pub n_inner: usize,
    pub layer_norm_epsilon: f64,
    pub embd_pdrop: f64,
    pub resid_pdrop: f64,
    pub attn_pdrop: f64,
    pub tie_word_embeddings: bool,
    pub eos_token_ids: Vec<u32>,
}

impl Gpt2Config {
    pub(super) fn parse(keys: &Keys<'_>) -> Result<Self, FormatsError> {
        let (n_embd, n_head) = (keys.size("n_embd", 768)?, keys.size("n_head", 12)?);
        if !n_embd.is_multiple_of(n_head) {
            return Err(keys.error("n_embd", format!("is {n_embd}, not a multiple of n_head = {n_head}")));
        }
        match keys.string("activation_function")?.as_deref() {
            None | Some("gelu_new" | "gelu_pytorch_tanh") => {}
            Some(other) => {
                let problem = format!("is \"{other}\"; supported are gelu_new and gelu_pytorch_tanh");
                return Err(keys.error("activation_function", problem));
            }
        }
        if !keys.flag("scale_attn_weights", true)? {
            return Err(keys.error("scale_attn_weights", "is false, which is not supported"));
        }
        if keys.flag("scale_attn_by_inverse_layer_idx", false)? {
            return Err(keys.error("scale_attn_by_inverse_layer_idx", "is true, which is not supported"));
        }
        if keys.flag("add_cross_attention", false)? {
            return Err(keys.error("add_cross_attention", "is true; only decoders alone are supported"));
        }
        Ok(Gpt2Config {
            vocab_size: keys.size("vocab_size", 50257)?,
            n_positions: keys.size("n_positions", 1024)?,
            n_embd,
            n_layer: keys.size("n_layer", 12)?,
            n_head,
            n_inner: keys.size("n_inner", 4 * n_embd)?,
            layer_norm_epsilon: keys.positive("layer_norm_epsilon", 1e-5)?,
            embd_pdrop: keys.probability("embd_pdrop", 0.1)?,
            resid_pdrop: keys.probability("resid_pdrop", 0.1)?,
            attn_pdrop: keys.probability("attn_pdrop", 0.1)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings", true)?,
            eos_token_ids: match keys.token_ids("eos_token_id")? {
                ids if ids.is_empty() => vec![50256],
                ids => ids,
            },
        })
    }
}
