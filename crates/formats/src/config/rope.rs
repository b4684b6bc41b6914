//! Rotary positions: the base of the wavelengths and how they are stretched for longer contexts.
//!
//! Keys, defaults and precedence as in transformers 5 (`RotaryEmbeddingConfigMixin`). `model` has the formulas.

use super::most;
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

/// Theta and scaling, from transformers 5's `rope_parameters` or the older `rope_theta` and `rope_scaling`. Where a file
/// has both spellings, `rope_scaling` wins, and a theta inside the object wins over one beside it.
pub(super) fn rope(
    keys: &Keys<'_>,
    default_theta: f64,
    max_position_embeddings: usize,
) -> Result<(f64, RopeScaling), FormatsError> {
    let theta = keys.positive("rope_theta", default_theta)?;
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
