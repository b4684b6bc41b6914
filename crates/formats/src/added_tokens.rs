//! Tokens that are added to a tokenizer: the file that lists them, and a `tokenizer.json` that has them behind its own tokens.
//!
//! Invariant: a token that was there keeps its id, a new one has the next that is free, as the tokenizers library counts and as
//! transformers' `add_tokens` does; what is written was read back by that library. The rest of the file stays as it is, byte for byte.

use crate::files::TOKENIZER_FILE_LIMIT_BYTES;
use crate::json::{self, CONFIG_LIMIT_BYTES};
use crate::{FormatsError, Tokenizer};
use serde::{Deserialize, Serialize};
use serde_json::value::{RawValue, to_raw_value};
use std::collections::BTreeSet;
use std::path::Path;

/// Most tokens that are added at once, and the longest.
const MOST_TOKENS: usize = 100_000;
const MOST_BYTES: usize = 1024;

/// A token to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its text.
    pub content: String,
    /// Whether it stands for itself, as an end of turn does, and is left out of texts that are shown.
    pub special: bool,
}

/// A tokenizer with new tokens.
#[derive(Debug, Clone)]
pub struct GrownTokenizer {
    /// The new `tokenizer.json`.
    pub json: Vec<u8>,
    /// The ids of the new tokens, in their order.
    pub ids: Vec<u32>,
}

/// An entry of a list in JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Text(String),
    Token(TokenEntry),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenEntry {
    content: String,
    #[serde(default)]
    special: bool,
}

/// Reads the tokens of a file: one a line, empty lines aside; or, of a file whose name ends in `.json`, a list of texts or of
/// `{"content": TEXT, "special": true}`.
///
/// # Errors
/// A file that is missing or malformed, is without a token, or has one twice, too long, or of white space alone.
pub fn read_new_tokens(path: &Path) -> Result<Vec<NewToken>, FormatsError> {
    let text = json::read_text(path, CONFIG_LIMIT_BYTES, "give the path of a file that lists tokens")?;
    let tokens: Vec<NewToken> = if path.extension().is_some_and(|end| end.eq_ignore_ascii_case("json")) {
        let token = |entry| match entry {
            Entry::Text(content) => NewToken { content, special: false },
            Entry::Token(TokenEntry { content, special }) => NewToken { content, special },
        };
        json::parse::<Vec<Entry>>(path, &text)?.into_iter().map(token).collect()
    } else {
        let lines = text.lines().filter(|line| !line.is_empty());
        lines.map(|line| NewToken { content: line.to_string(), special: false }).collect()
    };
    let bad = |problem: String| Err(FormatsError::malformed(path, problem));
    if tokens.is_empty() || tokens.len() > MOST_TOKENS {
        return bad(format!("lists {} tokens; it must be 1 to {MOST_TOKENS}", tokens.len()));
    }
    let mut seen = BTreeSet::new();
    for NewToken { content, .. } in &tokens {
        let shown = crate::error::excerpt(content);
        if content.trim().is_empty() {
            return bad(format!("has {shown:?}, which is no text"));
        }
        if content.len() > MOST_BYTES {
            return bad(format!("has a token of {} bytes, more than {MOST_BYTES}: {shown:?}", content.len()));
        }
        if !seen.insert(content) {
            return bad(format!("has {shown:?} twice"));
        }
    }
    Ok(tokens)
}

/// The parts of a `tokenizer.json`, in their usual order.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Parts<'a> {
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    version: Option<&'a RawValue>,
    #[serde(borrow, default)]
    truncation: Option<&'a RawValue>,
    #[serde(borrow, default)]
    padding: Option<&'a RawValue>,
    added_tokens: Vec<Box<RawValue>>,
    #[serde(borrow, default)]
    normalizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pre_tokenizer: Option<&'a RawValue>,
    #[serde(borrow, default)]
    post_processor: Option<&'a RawValue>,
    #[serde(borrow, default)]
    decoder: Option<&'a RawValue>,
    #[serde(borrow)]
    model: &'a RawValue,
}

/// A token as `tokenizer.json` lists it.
#[derive(Serialize)]
struct AddedToken<'a> {
    id: u32,
    content: &'a str,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    special: bool,
}

/// The tokenizer of a folder's `tokenizer.json`, at `path`, with new tokens.
///
/// # Errors
/// A file that is missing or malformed; a token that it has already.
pub fn grow_tokenizer(path: &Path, tokens: &[NewToken]) -> Result<GrownTokenizer, FormatsError> {
    let remedy =
        "tokens are added to the tokenizer of the model's folder: save one there with transformers' save_pretrained";
    let bytes = json::read_bytes(path, TOKENIZER_FILE_LIMIT_BYTES, remedy)?;
    let tokenizer = Tokenizer::from_bytes(path, &bytes)?;
    let bad = |problem: String| FormatsError::malformed(path, problem);
    for NewToken { content, .. } in tokens {
        if let Some(id) = tokenizer.token_to_id(content) {
            let shown = crate::error::excerpt(content);
            return Err(bad(format!("has the token {shown:?} already, as {id}; take it out of what is added")));
        }
    }
    let mut parts: Parts<'_> =
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("cannot be added to: {error}")))?;
    let ids: Vec<u32> = (tokenizer.id_limit()..).take(tokens.len()).collect();
    for (&id, NewToken { content, special }) in ids.iter().zip(tokens) {
        let token = AddedToken {
            id,
            content,
            single_word: false,
            lstrip: false,
            rstrip: false,
            normalized: !special,
            special: *special,
        };
        parts.added_tokens.push(to_raw_value(&token).expect("plain fields"));
    }
    let json = serde_json::to_vec(&parts).expect("JSON that was parsed");
    let grown = Tokenizer::from_bytes(path, &json)?;
    for (&id, NewToken { content, .. }) in ids.iter().zip(tokens) {
        if grown.token_to_id(content) != Some(id) {
            let shown = crate::error::excerpt(content);
            return Err(bad(format!(
                "does not take the token {shown:?} as {id}: its ids have gaps or its form is another"
            )));
        }
    }
    Ok(GrownTokenizer { json, ids })
}
