//! Which files of a repository a model or an adapter is.
//!
//! Invariant: weights are safetensors alone: nothing that runs code when it is opened is fetched, nor what is not read here.

use crate::HubError;
use crate::listing::Listing;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What is wanted of a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Configuration and tokenizer: enough to plan.
    Shape,
    /// These and the weights.
    Weights,
    /// A PEFT adapter, and what lies beside it.
    Adapter,
}

const CONFIG: &str = "config.json";
pub(crate) const TOKENIZER: &str = "tokenizer.json";
const SINGLE: &str = "model.safetensors";
pub(crate) const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];
/// Small files that say how a model is used; those that a repository has are wanted.
const BESIDE: [&str; 7] = [
    "generation_config.json",
    TOKENIZER,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
];
const TEMPLATES: &str = "additional_chat_templates/";
/// Longest index that is read.
const INDEX_LIMIT_BYTES: u64 = 64 << 20;

/// What a folder of the cache lacks; `None` if it is whole. Whether a tokenizer belongs to it a folder does not say.
pub(crate) fn missing(folder: &Path, wanted: Wanted) -> Option<String> {
    let lacks = |name: &str| Some(name.to_string()).filter(|name| !folder.join(name).is_file());
    match wanted {
        Wanted::Shape => lacks(CONFIG),
        Wanted::Weights => lacks(CONFIG).or_else(|| match lacks(SINGLE) {
            None => None,
            Some(_) => lacks(INDEX).or_else(|| match shards(&folder.join(INDEX)) {
                Ok(shards) => shards.iter().find_map(|shard| lacks(shard)),
                Err(_) => Some(INDEX.to_string()),
            }),
        }),
        Wanted::Adapter => ADAPTER.iter().find_map(|name| lacks(name)),
    }
}

/// The files to fetch first. Where the weights are in shards, their index is among them and says which.
pub(crate) fn chosen(name: &str, listing: &Listing, wanted: Wanted) -> Result<Vec<String>, HubError> {
    let has = |path: &str| listing.get(path).is_some();
    let lacks = |what: &str| {
        let problem = format!("the repository has no {what}");
        HubError::Name { name: name.to_string(), problem }
    };
    let required: &[&str] = match wanted {
        Wanted::Shape => &[CONFIG],
        Wanted::Weights if has(SINGLE) => &[CONFIG, SINGLE],
        Wanted::Weights if has(INDEX) => &[CONFIG, INDEX],
        Wanted::Weights => return Err(lacks("model.safetensors; give one whose weights are in safetensors")),
        Wanted::Adapter => &ADAPTER,
    };
    if let Some(absent) = required.iter().find(|path| !has(path)) {
        return Err(lacks(&format!("{absent} at its top")));
    }
    let beside = listing.paths().into_iter().filter(|path| {
        let is_template = path.strip_prefix(TEMPLATES).is_some_and(|name| name.ends_with(".jinja"));
        is_template || BESIDE.contains(path)
    });
    Ok(beside.chain(required.iter().copied()).map(str::to_string).collect())
}

/// The files that an index names.
pub(crate) fn shards(index: &Path) -> Result<BTreeSet<String>, String> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let bytes = fs::metadata(index).map_err(|error| error.to_string())?.len();
    if bytes > INDEX_LIMIT_BYTES {
        return Err(format!("an index of {bytes} bytes"));
    }
    let text = fs::read(index).map_err(|error| error.to_string())?;
    let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let shards: BTreeSet<String> = weight_map.into_values().collect();
    let is_shard = |name: &String| name.ends_with(".safetensors") && !name.contains(['/', '\\']);
    match shards.iter().find(|name| !is_shard(name)) {
        Some(name) => Err(format!("it names {name:?}, which is no file beside it")),
        None => Ok(shards),
    }
}
