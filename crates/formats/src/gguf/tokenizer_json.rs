//! The parts of a `tokenizer.json` that a GGUF file holds in llama.cpp's own words.
//!
//! Invariant: only byte pair encodings come out, with every setting of theirs that changes what is encoded; other kinds are
//! refused by name. The library has read the same file before, so that it is bounded and of its format.

use crate::files::TOKENIZER_FILE_LIMIT_BYTES;
use crate::{FormatsError, error::excerpt, json};
use serde::Deserialize;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// What is read.
#[derive(Debug, Deserialize)]
pub(super) struct TokenizerJson {
    #[serde(default)]
    pub added_tokens: Vec<AddedToken>,
    #[serde(default)]
    pub normalizer: Value,
    #[serde(default)]
    pub pre_tokenizer: Value,
    #[serde(default)]
    pub post_processor: Value,
    pub model: Bpe,
}

/// A token beside the model's own, found in a text before that is encoded.
#[derive(Debug, Deserialize)]
pub(super) struct AddedToken {
    pub id: u32,
    pub content: String,
    #[serde(default)]
    pub single_word: bool,
    #[serde(default)]
    pub lstrip: bool,
    #[serde(default)]
    pub rstrip: bool,
    #[serde(default)]
    pub special: bool,
}

/// A byte pair encoding.
#[derive(Debug, Deserialize)]
pub(super) struct Bpe {
    pub vocab: BTreeMap<String, u32>,
    #[serde(default)]
    pub merges: Vec<Merge>,
    #[serde(default)]
    pub unk_token: Option<String>,
    #[serde(default)]
    pub byte_fallback: Option<bool>,
    #[serde(default)]
    pub ignore_merges: Option<bool>,
    #[serde(default)]
    pub continuing_subword_prefix: Option<String>,
    #[serde(default)]
    pub end_of_word_suffix: Option<String>,
}

/// Two tokens that become one, as files of either age write them.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub(super) enum Merge {
    Pair([String; 2]),
    Text(String),
}

#[derive(Deserialize)]
struct Kinds {
    model: Kind,
}

#[derive(Deserialize)]
struct Kind {
    #[serde(rename = "type")]
    kind: Option<String>,
}

impl TokenizerJson {
    /// Reads the file.
    pub(super) fn read(path: &Path) -> Result<Self, FormatsError> {
        let text = json::read_text(path, TOKENIZER_FILE_LIMIT_BYTES, "save the tokenizer into this folder")?;
        let Kinds { model: Kind { kind } } = json::parse(path, &text)?;
        if let Some(other) = kind.filter(|kind| kind != "BPE") {
            let problem = format!("is {:?}; only byte pair encodings are exported to GGUF", excerpt(&other));
            return Err(FormatsError::key(path, "model.type", problem));
        }
        let parsed: TokenizerJson = json::parse(path, &text)?;
        let affixes = [
            ("model.continuing_subword_prefix", &parsed.model.continuing_subword_prefix),
            ("model.end_of_word_suffix", &parsed.model.end_of_word_suffix),
        ];
        let set = affixes.into_iter().find(|(_, affix)| affix.as_ref().is_some_and(|affix| !affix.is_empty()));
        match set.map(|(key, _)| key) {
            Some(key) => Err(FormatsError::key(path, key, "is set; llama.cpp has no such affixes")),
            None => Ok(parsed),
        }
    }
}

impl Merge {
    /// The two tokens; `None` of a text that has no space between two.
    pub(super) fn pair(&self) -> Option<(&str, &str)> {
        match self {
            Merge::Pair([a, b]) => Some((a, b)),
            Merge::Text(text) => text.split_once(' '),
        }
    }
}

/// The parts of a pre-tokenizer, normaliser or post-processor: those of a `Sequence`, one by one, or itself.
pub(super) fn steps<'a>(part: &'a Value, key: &str) -> Vec<&'a Value> {
    match part {
        Value::Null => Vec::new(),
        _ if part["type"] == "Sequence" => {
            part[key].as_array().into_iter().flatten().flat_map(|part| steps(part, key)).collect()
        }
        _ => vec![part],
    }
}

/// What a part is called.
pub(super) fn kind_of(part: &Value) -> String {
    excerpt(part["type"].as_str().unwrap_or("without a type"))
}
