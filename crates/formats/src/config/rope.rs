//! Rotary positions: the base of the wavelengths and how they are stretched for contexts longer than were trained.
//!
//! Keys, defaults and precedence as in transformers 5 (`RotaryEmbeddingConfigMixin`, `modeling_rope_utils`): where a file has
//! both spellings, `rope_scaling` wins over `rope_parameters`, a theta inside the object over one beside it, and an
//! `original_max_position_embeddings` beside the object over one inside. Invariant: what parses can be computed: no
//! logarithm of 1 divides, lists fit the heads, factors are positive. `model` has the formulas.

use super::most;
use crate::FormatsError;
use crate::error::excerpt;
use crate::keys::Keys;
use serde_json::Value;

const ORIGINAL: &str = "original_max_position_embeddings";

/// How rotary frequencies are stretched for longer contexts.
#[derive(Debug, Clone, PartialEq)]
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
    /// A larger base for sequences longer than the model was made for.
    Dynamic {
        /// How fast the base grows.
        factor: f64,
    },
    /// Frequencies divided where they turn seldom within the original context, kept where they turn often. Peng et al.,
    /// *YaRN*, 2023.
    Yarn {
        /// What frequencies are divided by.
        factor: f64,
        /// What rotated queries and keys are multiplied by.
        attention_factor: f64,
        /// Turns within the original context above which a frequency is kept.
        beta_fast: f64,
        /// Turns below which it is divided by the whole factor.
        beta_slow: f64,
        /// Whether the range between is widened to whole pairs.
        truncate: bool,
        /// Context length of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
    /// A factor for each frequency. Ding et al., *LongRoPE*, 2024.
    LongRope {
        /// For sequences within the original context; one per pair of a head.
        short_factor: Vec<f64>,
        /// For longer ones.
        long_factor: Vec<f64>,
        /// What rotated queries and keys are multiplied by.
        attention_factor: f64,
        /// Context length of the original training, in tokens.
        original_max_position_embeddings: usize,
    },
}

impl RopeScaling {
    /// What rotated queries and keys are multiplied by.
    pub fn attention_factor(&self) -> f64 {
        match *self {
            RopeScaling::Yarn { attention_factor, .. } | RopeScaling::LongRope { attention_factor, .. } => {
                attention_factor
            }
            RopeScaling::None
            | RopeScaling::Linear { .. }
            | RopeScaling::Llama3 { .. }
            | RopeScaling::Dynamic { .. } => 1.0,
        }
    }
}

/// What the scalings read of the rest of the configuration.
pub(super) struct Context {
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    /// Base of the wavelengths if no key gives one.
    pub default_theta: f64,
}

/// Theta and scaling.
pub(super) fn rope(keys: &Keys<'_>, context: &Context) -> Result<(f64, RopeScaling), FormatsError> {
    let theta = keys.positive("rope_theta", context.default_theta)?;
    whole_head(keys)?;
    let filled = |key| Ok(keys.object(key)?.filter(|parameters| parameters.entries().next().is_some()));
    let parameters = match filled("rope_scaling")? {
        Some(older) => Some(older),
        None => filled("rope_parameters")?,
    };
    let Some(parameters) = parameters else { return Ok((theta, RopeScaling::None)) };
    whole_head(&parameters)?;
    let theta = parameters.positive("rope_theta", theta)?;
    Ok((theta, scaling(keys, &parameters, theta, context)?))
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

fn scaling(outer: &Keys<'_>, keys: &Keys<'_>, theta: f64, context: &Context) -> Result<RopeScaling, FormatsError> {
    if let Some((key, _)) = keys.entries().find(|(_, value)| value.is_object()) {
        let problem = "is an object; rotary positions that differ between layers are not supported";
        return Err(keys.error(key, problem));
    }
    let key = if keys.value("rope_type").is_some() { "rope_type" } else { "type" };
    match keys.string(key)? {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: keys.required_positive("factor")? }),
        Some("llama3") => llama3(outer, keys, context),
        Some("dynamic") if context.head_dim == 2 => {
            Err(keys.error(key, "is \"dynamic\", which no head of size 2 can have"))
        }
        Some("dynamic") => Ok(RopeScaling::Dynamic { factor: keys.required_positive("factor")? }),
        Some("yarn") if theta <= 1.0 => {
            Err(keys.error("rope_theta", format!("is {theta}; with yarn it must be above 1")))
        }
        Some("yarn") => yarn(outer, keys, context),
        Some("longrope") => long_rope(outer, keys, context),
        Some(other) => {
            let known = "default, linear, llama3, dynamic, yarn and longrope";
            Err(keys.error(key, format!("is {:?}, which is not supported; supported are {known}", excerpt(other))))
        }
    }
}

/// Context length of the original training: beside the object, in it, or the whole context.
fn original(outer: &Keys<'_>, keys: &Keys<'_>, context: &Context) -> Result<usize, FormatsError> {
    match outer.maybe_size(ORIGINAL, most::POSITIONS)? {
        Some(beside) => Ok(beside),
        None => keys.size(ORIGINAL, context.max_position_embeddings, most::POSITIONS),
    }
}

fn llama3(outer: &Keys<'_>, keys: &Keys<'_>, context: &Context) -> Result<RopeScaling, FormatsError> {
    let low_freq_factor = keys.required_positive("low_freq_factor")?;
    let high_freq_factor = keys.required_positive("high_freq_factor")?;
    if low_freq_factor >= high_freq_factor {
        let problem = format!("is {low_freq_factor}; it must be below high_freq_factor = {high_freq_factor}");
        return Err(keys.error("low_freq_factor", problem));
    }
    Ok(RopeScaling::Llama3 {
        factor: keys.required_positive("factor")?,
        low_freq_factor,
        high_freq_factor,
        original_max_position_embeddings: original(outer, keys, context)?,
    })
}

fn yarn(outer: &Keys<'_>, keys: &Keys<'_>, context: &Context) -> Result<RopeScaling, FormatsError> {
    let factor = keys.required_positive("factor")?;
    // As in transformers, a 0 is as absent.
    let number = |key| Ok(keys.maybe_number(key)?.filter(|&number| number != 0.0));
    let beta = |key, default| match number(key)? {
        None => Ok(default),
        Some(_) => keys.required_positive(key),
    };
    let (beta_fast, beta_slow) = (beta("beta_fast", 32.0)?, beta("beta_slow", 1.0)?);
    if beta_fast < beta_slow {
        return Err(keys.error("beta_fast", format!("is {beta_fast}; it must not be below beta_slow = {beta_slow}")));
    }
    let scale = |weight: f64| if factor <= 1.0 { 1.0 } else { 0.1 * weight * factor.ln() + 1.0 };
    let implied = match (number("mscale")?, number("mscale_all_dim")?) {
        (Some(mscale), Some(all)) => scale(mscale) / scale(all),
        _ => scale(1.0),
    };
    Ok(RopeScaling::Yarn {
        factor,
        attention_factor: attention_factor(keys, implied)?,
        beta_fast,
        beta_slow,
        truncate: keys.flag("truncate", true)?,
        original_max_position_embeddings: original(outer, keys, context)?,
    })
}

fn long_rope(outer: &Keys<'_>, keys: &Keys<'_>, context: &Context) -> Result<RopeScaling, FormatsError> {
    let original = original(outer, keys, context)?;
    let ratio = context.max_position_embeddings as f64 / original as f64;
    let factor = keys.positive("factor", ratio)?;
    if original == 1 && factor > 1.0 {
        return Err(keys.error(ORIGINAL, "is 1; with longrope it must be larger"));
    }
    let implied = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    Ok(RopeScaling::LongRope {
        short_factor: factors(keys, "short_factor", context)?,
        long_factor: factors(keys, "long_factor", context)?,
        attention_factor: attention_factor(keys, implied)?,
        original_max_position_embeddings: original,
    })
}

/// The factor of attention that the file gives, or that the other keys imply.
fn attention_factor(keys: &Keys<'_>, implied: f64) -> Result<f64, FormatsError> {
    let factor = keys.positive("attention_factor", implied)?;
    if !(f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&factor) {
        let problem = format!("is {factor:e} by the keys beside it; give one above 0");
        return Err(keys.error("attention_factor", problem));
    }
    Ok(factor)
}

/// A list of factors, one per pair of a head.
fn factors(keys: &Keys<'_>, key: &str, context: &Context) -> Result<Vec<f64>, FormatsError> {
    let pairs = context.head_dim / 2;
    let bad = |found: &str| {
        let problem = format!("{found}; it must be a list of {pairs} numbers above 0, one per pair of a head");
        keys.error(key, problem)
    };
    let list = keys.value(key).ok_or_else(|| bad("is missing"))?;
    let list = list.as_array().ok_or_else(|| bad("is no list"))?;
    if list.len() != pairs {
        return Err(bad(&format!("is a list of {}", list.len())));
    }
    let positive = |value: &Value| value.as_f64().filter(|&number| number > 0.0 && number <= f64::from(f32::MAX));
    list.iter().map(positive).collect::<Option<_>>().ok_or_else(|| bad("holds what is no number above 0"))
}
