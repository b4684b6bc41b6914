//! Rotary positions: the base of the wavelengths and how they are stretched for contexts longer than were trained.
//!
//! Keys, defaults and precedence as in transformers 5 (`RotaryEmbeddingConfigMixin`, `modeling_rope_utils`): where a file has
//! both spellings, `rope_scaling` wins over `rope_parameters`, a theta inside the object over one beside it, and an
//! `original_max_position_embeddings` beside the object over one inside. Invariant: what parses can be computed: no
//! logarithm of 1 divides, lists fit the heads, factors are positive. `model` has the formulas.

use super::most;
use super::rotary::{RopeScaling, Rotary};
use crate::FormatsError;
use crate::error::excerpt;
use crate::keys::Keys;
use serde_json::Value;

const ORIGINAL: &str = "original_max_position_embeddings";
/// The part of a head that is rotated.
const PART: &str = "partial_rotary_factor";

/// What rotary positions depend on of the rest of the configuration.
pub(super) struct Context {
    pub head_dim: usize,
    pub max_position_embeddings: usize,
    /// Base of the wavelengths if no key gives one.
    pub default_theta: f64,
}

/// What families differ in, of these keys.
pub(super) struct Dialect {
    /// The keys of theta and of the rotated part of a head where they stand beside the object; in it, all have the same names.
    pub beside: [&'static str; 2],
    /// The part of a head that is rotated if no key says it; `None` for a family that rotates whole heads only.
    pub part: Option<f64>,
    /// Phi-3's: nothing but `longrope` stretches, by older names too, and the original context has this default.
    pub long_rope_only: Option<usize>,
}

/// Llama's.
const WHOLE_HEADS: Dialect = Dialect { beside: ["rope_theta", PART], part: None, long_rope_only: None };

/// Of a family that rotates whole heads.
pub(super) fn of_whole_heads(keys: &Keys<'_>, context: &Context) -> Result<Rotary, FormatsError> {
    of(keys, context, &WHOLE_HEADS)
}

/// Of a family that may rotate a part of each head; this part if no key says which.
pub(super) fn of_parts(keys: &Keys<'_>, context: &Context, part: f64) -> Result<Rotary, FormatsError> {
    of(keys, context, &Dialect { part: Some(part), ..WHOLE_HEADS })
}

/// Rotary positions by the keys of a dialect.
pub(super) fn of(keys: &Keys<'_>, context: &Context, dialect: &Dialect) -> Result<Rotary, FormatsError> {
    let filled = |key| Ok(keys.object(key)?.filter(|parameters| parameters.entries().next().is_some()));
    let parameters = match filled("rope_scaling")? {
        Some(older) => Some(older),
        None => filled("rope_parameters")?,
    };
    let [theta, part_key] = dialect.beside;
    let theta = keys.positive(theta, context.default_theta)?;
    let beside = part(keys, part_key, dialect)?;
    let within = parameters.as_ref().map_or(Ok(None), |parameters| part(parameters, PART, dialect))?;
    let dims = rotated(keys, part_key, within.or(beside).or(dialect.part).unwrap_or(1.0), context.head_dim)?;
    match parameters {
        None => Ok(Rotary::plain(theta, RopeScaling::None, dims)),
        Some(parameters) => stretched((keys, &parameters), theta, dims, context, dialect),
    }
}

/// The same by Llama's keys from an object that a family has in a place of its own.
pub(super) fn of_object(
    keys: &Keys<'_>,
    parameters: &Keys<'_>,
    theta: f64,
    context: &Context,
) -> Result<Rotary, FormatsError> {
    part(parameters, PART, &WHOLE_HEADS)?;
    stretched((keys, parameters), theta, context.head_dim, context, &WHOLE_HEADS)
}

/// Theta and scaling as the object of parameters has them.
fn stretched(
    (outer, parameters): (&Keys<'_>, &Keys<'_>),
    theta: f64,
    dims: usize,
    context: &Context,
    dialect: &Dialect,
) -> Result<Rotary, FormatsError> {
    let theta = parameters.positive("rope_theta", theta)?;
    let max_position_embeddings = context.max_position_embeddings;
    let original_default = dialect.long_rope_only.unwrap_or(max_position_embeddings);
    let sizes = Sizes { dims, max_position_embeddings, original_default };
    let scaling = match dialect.long_rope_only {
        None => scaling(outer, parameters, theta, &sizes)?,
        Some(_) => long_rope_alone(outer, parameters, &sizes)?,
    };
    Ok(Rotary::plain(theta, scaling, dims))
}

/// The part of a head that a key says is rotated.
fn part(keys: &Keys<'_>, key: &str, dialect: &Dialect) -> Result<Option<f64>, FormatsError> {
    match keys.maybe_number(key)? {
        Some(factor) if factor != 1.0 && dialect.part.is_none() => {
            let problem = format!("is {factor}; only 1, which rotates the whole head, is supported");
            Err(keys.error(key, problem))
        }
        factor => Ok(factor),
    }
}

/// How many elements of a head are rotated. As in transformers, what is left of the product is cut off.
fn rotated(keys: &Keys<'_>, key: &str, factor: f64, head: usize) -> Result<usize, FormatsError> {
    let dims = (head as f64 * factor) as usize;
    if factor > 0.0 && factor <= 1.0 && dims >= 2 && dims.is_multiple_of(2) {
        return Ok(dims);
    }
    let problem =
        format!("is {factor}, which rotates {dims} of a head's {head} elements; it must be an even number of them");
    Err(keys.error(key, problem))
}

/// What the scalings read of the rest of the configuration.
struct Sizes {
    /// Elements of a head that are rotated.
    dims: usize,
    max_position_embeddings: usize,
    /// Original context, where nothing says it.
    original_default: usize,
}

/// Phi-3's: `longrope`, under its older names too, or nothing.
fn long_rope_alone(outer: &Keys<'_>, keys: &Keys<'_>, sizes: &Sizes) -> Result<RopeScaling, FormatsError> {
    let key = kind_key(keys);
    match keys.string(key)? {
        None | Some("default") => Ok(RopeScaling::None),
        Some("longrope" | "su" | "yarn") => {
            let original = outer.size(ORIGINAL, sizes.original_default, most::POSITIONS)?;
            long_rope(keys, sizes, original)
        }
        Some(other) => {
            let problem = format!("is {:?}; this architecture has default and longrope", excerpt(other));
            Err(keys.error(key, problem))
        }
    }
}

/// The key that names the scaling.
fn kind_key(keys: &Keys<'_>) -> &'static str {
    if keys.value("rope_type").is_some() { "rope_type" } else { "type" }
}

fn scaling(outer: &Keys<'_>, keys: &Keys<'_>, theta: f64, sizes: &Sizes) -> Result<RopeScaling, FormatsError> {
    if let Some((key, _)) = keys.entries().find(|(_, value)| value.is_object()) {
        let problem = "is an object; rotary positions that differ between layers are not supported";
        return Err(keys.error(key, problem));
    }
    let key = kind_key(keys);
    match keys.string(key)? {
        None | Some("default") => Ok(RopeScaling::None),
        Some("linear") => Ok(RopeScaling::Linear { factor: keys.required_positive("factor")? }),
        Some("llama3") => llama3(outer, keys, sizes),
        Some("dynamic") if sizes.dims == 2 => Err(keys.error(key, "is \"dynamic\", which no head of size 2 can have")),
        Some("dynamic") => Ok(RopeScaling::Dynamic { factor: keys.required_positive("factor")? }),
        Some("yarn") if theta <= 1.0 => {
            Err(keys.error("rope_theta", format!("is {theta}; with yarn it must be above 1")))
        }
        Some("yarn") => yarn(outer, keys, sizes),
        Some("longrope") => long_rope(keys, sizes, original(outer, keys, sizes)?),
        Some(other) => {
            let known = "default, linear, llama3, dynamic, yarn and longrope";
            Err(keys.error(key, format!("is {:?}, which is not supported; supported are {known}", excerpt(other))))
        }
    }
}

/// Context length of the original training: beside the object, in it, or the whole context.
fn original(outer: &Keys<'_>, keys: &Keys<'_>, sizes: &Sizes) -> Result<usize, FormatsError> {
    match outer.maybe_size(ORIGINAL, most::POSITIONS)? {
        Some(beside) => Ok(beside),
        None => keys.size(ORIGINAL, sizes.original_default, most::POSITIONS),
    }
}

fn llama3(outer: &Keys<'_>, keys: &Keys<'_>, sizes: &Sizes) -> Result<RopeScaling, FormatsError> {
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
        original_max_position_embeddings: original(outer, keys, sizes)?,
    })
}

fn yarn(outer: &Keys<'_>, keys: &Keys<'_>, sizes: &Sizes) -> Result<RopeScaling, FormatsError> {
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
        original_max_position_embeddings: original(outer, keys, sizes)?,
    })
}

fn long_rope(keys: &Keys<'_>, sizes: &Sizes, original: usize) -> Result<RopeScaling, FormatsError> {
    let ratio = sizes.max_position_embeddings as f64 / original as f64;
    let factor = keys.positive("factor", ratio)?;
    if original == 1 && factor > 1.0 {
        return Err(keys.error(ORIGINAL, "is 1; with longrope it must be larger"));
    }
    let implied = if factor <= 1.0 { 1.0 } else { (1.0 + factor.ln() / (original as f64).ln()).sqrt() };
    Ok(RopeScaling::LongRope {
        short_factor: factors(keys, "short_factor", sizes)?,
        long_factor: factors(keys, "long_factor", sizes)?,
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
fn factors(keys: &Keys<'_>, key: &str, sizes: &Sizes) -> Result<Vec<f64>, FormatsError> {
    let pairs = sizes.dims / 2;
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
