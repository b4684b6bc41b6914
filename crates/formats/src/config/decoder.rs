//! Configuration of the Llama-like families: RMSNorm, rotary positions, grouped-query attention, gated MLP.

use super::keys::Keys;
use crate::FormatsError;

/// How rotary frequencies are stretched for longer contexts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    /// Not at all.
    None,
    /// Every frequency divided by one factor.
    Linear {
        /// The factor.
        factor: f64,
    },
    /// Llama 3's: long wavelengths divided, short ones kept, blended between.
    Llama3 {
        /// The factor.
        factor: f64,
        /// Wavelengths above original / this are divided.
        low_freq_factor: f64,
        /// Wavelengths below original / this are kept.
        high_freq_factor: f64,
        /// Context length of the original training.
        original_max_position_embeddings: usize,
    },
}

/// Configuration of one Llama-like model.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct DecoderConfig {
    pub vocab_size: usize,
    pub hidden_size: usize,
    pub intermediate_size: usize,
    pub num_hidden_layers: usize,
    pub num_attention_heads: usize,
    pub num_key_value_heads: usize,
    pub head_dim: usize,
    pub rms_norm_eps: f64,
    pub rope_theta: f64,
    pub rope_scaling: RopeScaling,
    pub attention_bias: bool,
    pub mlp_bias: bool,
    pub attention_dropout: f64,
    pub tie_word_embeddings: bool,
    pub max_position_embeddings: usize,
    pub eos_token_ids: Vec<u32>,
}

impl DecoderConfig {
    /// Reads the keys of `model_type` llama.
    pub(super) fn llama(keys: &Keys<'_>) -> Result<Self, FormatsError> {
        let hidden_size = keys.size("hidden_size", 4096)?;
        let heads = keys.size("num_attention_heads", 32)?;
        let kv_heads = keys.size("num_key_value_heads", heads)?;
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}, which does not divide num_attention_heads = {heads}");
            return Err(keys.error("num_key_value_heads", problem));
        }
        let head_dim = match keys.maybe_size("head_dim")? {
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
        match keys.string("hidden_act")?.as_deref() {
            None | Some("silu") => {}
            Some(other) => return Err(keys.error("hidden_act", format!("is \"{other}\"; only \"silu\" is supported"))),
        }
        let (rope_theta, rope_scaling) = rope(keys)?;
        Ok(DecoderConfig {
            vocab_size: keys.size("vocab_size", 32000)?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size", 11008)?,
            num_hidden_layers: keys.size("num_hidden_layers", 32)?,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            rms_norm_eps: keys.positive("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            attention_bias: keys.flag("attention_bias", false)?,
            mlp_bias: keys.flag("mlp_bias", false)?,
            attention_dropout: keys.probability("attention_dropout", 0.0)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings", false)?,
            max_position_embeddings: keys.size("max_position_embeddings", 2048)?,
            eos_token_ids: keys.token_ids("eos_token_id")?,
        })
    }
}

/// Theta and scaling, from transformers 5's `rope_parameters` or the older `rope_theta` and `rope_scaling`.
fn rope(keys: &Keys<'_>) -> Result<(f64, RopeScaling), FormatsError> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let older = keys.positive("rope_theta", DEFAULT_THETA)?;
    if let Some(parameters) = keys.object("rope_parameters")? {
        return Ok((parameters.positive("rope_theta", older)?, scaling(&parameters)?));
    }
    match keys.object("rope_scaling")? {
        Some(parameters) => Ok((older, scaling(&parameters)?)),
        None => Ok((older, RopeScaling::None)),
    }
}

fn scaling(keys: &Keys<'_>) -> Result<RopeScaling, FormatsError> {
    let kind = match keys.string("rope_type")? {
        Some(kind) => Some(kind),
        None => keys.string("type")?,
    };
    let required = |key: &str| match keys.maybe_number(key)? {
        Some(number) if number > 0.0 => Ok(number),
        Some(number) => Err(keys.error(key, format!("is {number}; it must be above 0"))),
        None => Err(keys.error(key, "is missing; this rope scaling needs it")),
    };
    match kind.as_deref() {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: required("factor")? }),
        Some("llama3") => {
            let (low, high) = (required("low_freq_factor")?, required("high_freq_factor")?);
            if low >= high {
                return Err(
                    keys.error("low_freq_factor", format!("is {low}; it must be below high_freq_factor = {high}"))
                );
            }
            Ok(RopeScaling::Llama3 {
                factor: required("factor")?,
                low_freq_factor: low,
                high_freq_factor: high,
                original_max_position_embeddings: required("original_max_position_embeddings")? as usize,
            })
        }
        Some(other) => {
            let problem = format!("is \"{other}\", which is not supported; supported are default, linear and llama3");
            Err(keys.error("rope_type", problem))
        }
    }
}
