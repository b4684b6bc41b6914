//! Configuration of the Llama-like families: RMSNorm, rotary positions, grouped-query attention, gated MLP.
//!
//! Keys, defaults and precedence as in transformers 5 (`LlamaConfig`, `MistralConfig`, `Qwen2Config`, `Qwen3Config`,
//! `RotaryEmbeddingConfigMixin`). What differs between the families is the table [`Family`] here, and the blocks that
//! `model` builds.

use super::most;
use super::sliding_window::SlidingWindow;
use crate::FormatsError;
use crate::error::excerpt;
use crate::keys::Keys;

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
        /// Context length of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
}

/// Configuration of one Llama-like model. Fields are named as in `config.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct DecoderConfig {
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the MLP.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of one head, even; the heads together need not be `hidden_size` wide.
    pub head_dim: usize,
    /// Added to the mean square under the root.
    pub rms_norm_eps: f64,
    /// Base of the rotary wavelengths.
    pub rope_theta: f64,
    /// How rotary frequencies are stretched.
    pub rope_scaling: RopeScaling,
    /// The key of this name; false where the family has no such key.
    pub attention_bias: bool,
    /// The key of this name; false where the family has no such key.
    pub mlp_bias: bool,
    /// How many keys a token sees, and in which layers; `None` if all of them everywhere.
    pub sliding_window: Option<SlidingWindow>,
    /// Dropout of attention's probabilities in training.
    pub attention_dropout: f64,
    /// Whether the head is the embedding.
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for, in tokens; rotary positions do not end there.
    pub max_position_embeddings: usize,
    /// Ids that begin a sequence. Like the others, not checked against `vocab_size`: transformers does not either.
    pub bos_token_ids: Vec<u32>,
    /// Ids that end a sequence.
    pub eos_token_ids: Vec<u32>,
}

/// What differs between the families in reading the keys.
pub(super) struct Family {
    vocab_size: usize,
    intermediate_size: usize,
    /// Key and value heads if the key is absent; a `null`, and `None` here, mean as many as query heads.
    num_key_value_heads: Option<usize>,
    /// Head size if the key is absent; `None` is the width over the heads.
    head_dim: Option<usize>,
    max_position_embeddings: usize,
    bos_token_id: Option<u32>,
    eos_token_id: Option<u32>,
    has_attention_bias: bool,
    has_mlp_bias: bool,
    sliding_window: fn(&Keys<'_>, usize) -> Result<Option<SlidingWindow>, FormatsError>,
}

/// `LlamaConfig`.
pub(super) const LLAMA: Family = Family {
    vocab_size: 32000,
    intermediate_size: 11008,
    num_key_value_heads: None,
    head_dim: None,
    max_position_embeddings: 2048,
    bos_token_id: Some(1),
    eos_token_id: Some(2),
    has_attention_bias: true,
    has_mlp_bias: true,
    sliding_window: |_, _| Ok(None),
};

/// `MistralConfig`.
pub(super) const MISTRAL: Family = Family {
    intermediate_size: 14336,
    num_key_value_heads: Some(8),
    max_position_embeddings: 4096 * 32,
    has_attention_bias: false,
    has_mlp_bias: false,
    sliding_window: |keys, _| SlidingWindow::of_all_layers(keys),
    ..LLAMA
};

/// `Qwen2Config`.
pub(super) const QWEN2: Family = Family {
    vocab_size: 151_936,
    intermediate_size: 22016,
    num_key_value_heads: Some(32),
    head_dim: None,
    max_position_embeddings: 32768,
    bos_token_id: None,
    eos_token_id: None,
    has_attention_bias: false,
    has_mlp_bias: false,
    sliding_window: SlidingWindow::of_some_layers,
};

/// `Qwen3Config`.
pub(super) const QWEN3: Family = Family { head_dim: Some(128), has_attention_bias: true, ..QWEN2 };

impl DecoderConfig {
    /// Reads the keys of a family.
    pub(super) fn parse(keys: &Keys<'_>, family: &Family) -> Result<Self, FormatsError> {
        let hidden_size = keys.size("hidden_size", 4096, most::WIDTH)?;
        let heads = keys.size("num_attention_heads", 32, most::HEADS)?;
        let kv_heads = match family.num_key_value_heads {
            Some(default) if !keys.has("num_key_value_heads") => default,
            _ => keys.size("num_key_value_heads", heads, most::HEADS)?,
        };
        if !heads.is_multiple_of(kv_heads) {
            let problem = format!("is {kv_heads}, which does not divide num_attention_heads = {heads}");
            return Err(keys.error("num_key_value_heads", problem));
        }
        let head_dim = head_dim(keys, hidden_size, heads, family.head_dim)?;
        match keys.string("hidden_act")? {
            None | Some("silu") => {}
            Some(other) => {
                let problem = format!("is {:?}; only \"silu\" is supported for this architecture", excerpt(other));
                return Err(keys.error("hidden_act", problem));
            }
        }
        let max_position_embeddings =
            keys.size("max_position_embeddings", family.max_position_embeddings, most::POSITIONS)?;
        let (rope_theta, rope_scaling) = rope(keys, max_position_embeddings)?;
        let num_hidden_layers = keys.size("num_hidden_layers", 32, most::LAYERS)?;
        Ok(DecoderConfig {
            vocab_size: keys.size("vocab_size", family.vocab_size, most::VOCAB)?,
            hidden_size,
            intermediate_size: keys.size("intermediate_size", family.intermediate_size, most::INNER)?,
            num_hidden_layers,
            num_attention_heads: heads,
            num_key_value_heads: kv_heads,
            head_dim,
            rms_norm_eps: keys.positive("rms_norm_eps", 1e-6)?,
            rope_theta,
            rope_scaling,
            attention_bias: family.has_attention_bias && keys.flag("attention_bias", false)?,
            mlp_bias: family.has_mlp_bias && keys.flag("mlp_bias", false)?,
            sliding_window: (family.sliding_window)(keys, num_hidden_layers)?,
            attention_dropout: keys.probability("attention_dropout", 0.0)?,
            tie_word_embeddings: keys.flag("tie_word_embeddings", false)?,
            max_position_embeddings,
            bos_token_ids: keys.token_ids("bos_token_id", family.bos_token_id)?,
            eos_token_ids: keys.token_ids("eos_token_id", family.eos_token_id)?,
        })
    }

    /// How many keys a token of this layer sees at most, itself included; `None` if all before it.
    pub fn window(&self, layer: usize) -> Option<usize> {
        self.sliding_window.as_ref().and_then(|window| window.layers.contains(layer).then_some(window.tokens))
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

/// Theta and scaling, from transformers 5's `rope_parameters` or the older `rope_theta` and `rope_scaling`. Where a file
/// has both spellings, `rope_scaling` wins, and a theta inside the object wins over one beside it.
fn rope(keys: &Keys<'_>, max_position_embeddings: usize) -> Result<(f64, RopeScaling), FormatsError> {
    const DEFAULT_THETA: f64 = 10_000.0;
    let theta = keys.positive("rope_theta", DEFAULT_THETA)?;
    whole_head(keys)?;
    let filled = |key| Ok(keys.object(key)?.filter(|parameters| parameters.entries().next().is_some()));
    let parameters = match filled("rope_scaling")? {
        Some(older) => Some(older),
        None => filled("rope_parameters")?,
    };
    match parameters {
        Some(parameters) => {
            whole_head(&parameters)?;
            let scaling = scaling(&parameters, max_position_embeddings)?;
            Ok((parameters.positive("rope_theta", theta)?, scaling))
        }
        None => Ok((theta, RopeScaling::None)),
    }
}

fn whole_head(keys: &Keys<'_>) -> Result<(), FormatsError> {
    match keys.maybe_number("partial_rotary_factor")? {
        None | Some(1.0) => Ok(()),
        Some(factor) => {
            let problem = format!("is {factor}; only 1, which rotates the whole head, is supported");
            Err(keys.error("partial_rotary_factor", problem))
        }
    }
}

fn scaling(keys: &Keys<'_>, max_position_embeddings: usize) -> Result<RopeScaling, FormatsError> {
    if let Some((key, _)) = keys.entries().find(|(_, value)| value.is_object()) {
        let problem = "is an object; rotary positions that differ between layers are not supported";
        return Err(keys.error(key, problem));
    }
    let key = if keys.value("rope_type").is_some() { "rope_type" } else { "type" };
    match keys.string(key)? {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: keys.required_positive("factor")? }),
        Some("llama3") => {
            let low_freq_factor = keys.required_positive("low_freq_factor")?;
            let high_freq_factor = keys.required_positive("high_freq_factor")?;
            if low_freq_factor >= high_freq_factor {
                let problem = format!("is {low_freq_factor}; it must be below high_freq_factor = {high_freq_factor}");
                return Err(keys.error("low_freq_factor", problem));
            }
            let original = "original_max_position_embeddings";
            Ok(RopeScaling::Llama3 {
                factor: keys.required_positive("factor")?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: keys.size(original, max_position_embeddings, most::POSITIONS)?,
            })
        }
        Some(other) => {
            let other = excerpt(other);
            let problem = format!("is {other:?}, which is not supported; supported are default, linear and llama3");
            Err(keys.error(key, problem))
        }
    }
}
