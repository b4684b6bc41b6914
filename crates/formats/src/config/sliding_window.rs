//! Sliding windows of attention: how many keys a token sees, and in which layers.
//!
//! Invariant: a window is at least 1 token wide; a `null` window is none, and so is one that `use_sliding_window` switches off.
//! Keys as in transformers 5 (`MistralConfig`, `Qwen2Config`).

use super::most;
use crate::FormatsError;
use crate::error::excerpt;
use crate::keys::Keys;

/// Window if the key is absent, in all families that have one.
const DEFAULT_TOKENS: usize = 4096;

/// Attention that sees the last few tokens only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlidingWindow {
    /// Keys that a token sees at most, itself included.
    pub tokens: usize,
    /// Where.
    pub layers: WindowedLayers,
}

/// The layers whose attention has the window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WindowedLayers {
    /// This layer and all behind it.
    From(usize),
    /// Those with `true`, layer by layer.
    Listed(Vec<bool>),
}

impl WindowedLayers {
    /// Whether a layer has the window.
    pub fn contains(&self, layer: usize) -> bool {
        match self {
            WindowedLayers::From(first) => layer >= *first,
            WindowedLayers::Listed(list) => list.get(layer).copied().unwrap_or(false),
        }
    }
}

impl SlidingWindow {
    /// Mistral: `sliding_window` in every layer; `null` is none.
    pub(super) fn of_all_layers(keys: &Keys<'_>) -> Result<Option<Self>, FormatsError> {
        let tokens = tokens(keys)?;
        let expected = if tokens.is_some() { "sliding_attention" } else { "full_attention" };
        if let Some(kind) = layer_types(keys)?.iter().find(|kind| *kind != expected) {
            let problem = format!("has {:?}; with this sliding_window all layers have {expected:?}", excerpt(kind));
            return Err(keys.error("layer_types", problem));
        }
        Ok(tokens.map(|tokens| SlidingWindow { tokens, layers: WindowedLayers::From(0) }))
    }

    /// Qwen: only if `use_sliding_window`, then by `layer_types`, or from layer `max_window_layers` on.
    pub(super) fn of_some_layers(keys: &Keys<'_>, layers: usize) -> Result<Option<Self>, FormatsError> {
        let tokens = if keys.flag("use_sliding_window", false)? { tokens(keys)? } else { None };
        let listed = layer_types(keys)?;
        if listed.is_empty() {
            let from = match keys.value("max_window_layers").and_then(|value| value.as_u64()) {
                // A size counts from 1; here 0 says that every layer has the window.
                Some(0) => 0,
                _ => keys.size("max_window_layers", 28, most::POSITIONS)?,
            };
            return Ok(tokens.map(|tokens| SlidingWindow { tokens, layers: WindowedLayers::From(from) }));
        }
        let listed = windowed(keys, &listed, layers, tokens)?;
        Ok(tokens.map(|tokens| SlidingWindow { tokens, layers: WindowedLayers::Listed(listed) }))
    }

    /// Gemma: by `layer_types`, or in the layers given; `sliding_window` says how wide.
    pub(super) fn of_layer_types(keys: &Keys<'_>, otherwise: &[bool]) -> Result<Option<Self>, FormatsError> {
        let tokens = tokens(keys)?;
        if tokens.is_none() && layer_types(keys)?.is_empty() && otherwise.contains(&true) {
            let problem = "is null, but this architecture has a window in some layers; list all as full_attention";
            return Err(keys.error("sliding_window", problem));
        }
        SlidingWindow::of_listed_layers(keys, tokens, otherwise)
    }

    /// By `layer_types`; where these are absent, in the layers given.
    pub(super) fn of_listed_layers(
        keys: &Keys<'_>,
        tokens: Option<usize>,
        otherwise: &[bool],
    ) -> Result<Option<Self>, FormatsError> {
        let listed = match layer_types(keys)? {
            kinds if kinds.is_empty() => otherwise.to_vec(),
            kinds => windowed(keys, &kinds, otherwise.len(), tokens)?,
        };
        Ok(tokens.map(|tokens| SlidingWindow { tokens, layers: WindowedLayers::Listed(listed) }))
    }
}

/// For each layer whether its kind has the window.
fn windowed(
    keys: &Keys<'_>,
    kinds: &[String],
    layers: usize,
    tokens: Option<usize>,
) -> Result<Vec<bool>, FormatsError> {
    if kinds.len() != layers {
        let problem = format!("lists {} layers; num_hidden_layers is {layers}", kinds.len());
        return Err(keys.error("layer_types", problem));
    }
    let is_windowed = |kind: &String| match kind.as_str() {
        "full_attention" => Ok(false),
        "sliding_attention" if tokens.is_some() => Ok(true),
        "sliding_attention" => {
            let problem = "has \"sliding_attention\", but use_sliding_window is false or sliding_window is null";
            Err(keys.error("layer_types", problem))
        }
        other => {
            let problem = format!("has {:?}; supported are full_attention, sliding_attention", excerpt(other));
            Err(keys.error("layer_types", problem))
        }
    };
    kinds.iter().map(is_windowed).collect()
}

fn layer_types(keys: &Keys<'_>) -> Result<Vec<String>, FormatsError> {
    keys.strings("layer_types")
}

/// The window; a `null` means none.
fn tokens(keys: &Keys<'_>) -> Result<Option<usize>, FormatsError> {
    match keys.maybe_size("sliding_window", most::POSITIONS)? {
        None if !keys.has("sliding_window") => Ok(Some(DEFAULT_TOKENS)),
        tokens => Ok(tokens),
    }
}
