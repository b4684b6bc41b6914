//! `tokenizer.json`, and what the files beside it say of special tokens and the chat template.
//!
//! Invariant: encoding and decoding are the `tokenizers` library's own, whole texts in, whole texts out: a truncation or
//! padding stored in the file is switched off, as transformers does. As in transformers 5, the post-processor in
//! `tokenizer.json` alone decides which special tokens surround a text; `add_bos_token` beside it is not looked at.
//! Look next at `tokenize`, which encodes.

use crate::FormatsError;
use crate::files::TOKENIZER_FILE_LIMIT_BYTES;
use crate::guard::{guarded, guarded_on};
use crate::held_file::sha256_bytes;
use crate::json::{self, CONFIG_LIMIT_BYTES};
use crate::tokenizer_parts;
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;
use tokenizers::PostProcessorWrapper;

const FILE: &str = "tokenizer.json";
pub(crate) const LIBRARY: &str = "tokenizers";

/// A tokenizer with its special tokens.
pub struct Tokenizer {
    /// The library's tokenizer without its post-processor, which would move the offsets of tokens.
    pub(crate) inner: tokenizers::Tokenizer,
    pub(crate) post_processor: Option<PostProcessorWrapper>,
    special: BTreeSet<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    pad: Option<u32>,
    chat_templates: ChatTemplates,
    id_limit: u32,
    file_bytes: u64,
    sha256: String,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("bos", &self.bos).field("eos", &self.eos).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` of a model folder and, if they are there, `tokenizer_config.json`,
    /// `special_tokens_map.json` and `chat_template.jinja`.
    ///
    /// # Errors
    /// A missing or malformed file; a BOS or EOS token that `tokenizer.json` does not have.
    pub fn from_dir(folder: &Path) -> Result<Self, FormatsError> {
        Tokenizer::completed(Tokenizer::from_file(&folder.join(FILE))?, folder)
    }

    /// As [`Tokenizer::from_dir`], with these bytes in place of the folder's `tokenizer.json`.
    ///
    /// # Errors
    /// As [`Tokenizer::from_dir`].
    pub fn from_dir_with(folder: &Path, bytes: &[u8]) -> Result<Self, FormatsError> {
        Tokenizer::completed(Tokenizer::from_bytes(&folder.join(FILE), bytes)?, folder)
    }

    /// With what the files beside `tokenizer.json` say.
    fn completed(mut tokenizer: Self, folder: &Path) -> Result<Self, FormatsError> {
        let config_path = folder.join("tokenizer_config.json");
        let map_path = folder.join("special_tokens_map.json");
        let config = json::read_optional(&config_path)?;
        let map = json::read_optional(&map_path)?;
        let token = |key: &str| {
            let named = |value: &Value| value.as_str().or_else(|| value["content"].as_str()).map(str::to_string);
            let in_config = config.get(key).and_then(named).map(|token| (token, &config_path));
            in_config.or_else(|| map.get(key).and_then(named).map(|token| (token, &map_path)))
        };
        let known = |key: &str| match token(key) {
            None => Ok(None),
            Some((token, path)) => match tokenizer.inner.token_to_id(&token) {
                Some(id) => Ok(Some(id)),
                // Without it no text would ever end (or begin) as the model expects: never silently.
                None => {
                    let problem = format!("is {:?}, which {FILE} does not have", crate::error::excerpt(&token));
                    Err(FormatsError::key(path, key, problem))
                }
            },
        };
        let (bos, eos) = (known("bos_token")?, known("eos_token")?);
        let pad = token("pad_token").and_then(|(token, _)| tokenizer.inner.token_to_id(&token));
        (tokenizer.bos, tokenizer.eos, tokenizer.pad) = (bos, eos, pad);
        tokenizer.chat_templates = chat_templates(folder, &config)?;
        Ok(tokenizer)
    }

    /// Reads a `tokenizer.json` alone; it names no BOS or EOS.
    ///
    /// # Errors
    /// A missing or malformed file.
    pub fn from_file(path: &Path) -> Result<Self, FormatsError> {
        let remedy = "save the tokenizer with transformers' save_pretrained (a fast tokenizer) into this folder";
        Tokenizer::from_bytes(path, &json::read_bytes(path, TOKENIZER_FILE_LIMIT_BYTES, remedy)?)
    }

    /// As [`Tokenizer::from_file`], of bytes that are, or are to be, at `path`.
    ///
    /// # Errors
    /// Malformed bytes.
    pub fn from_bytes(path: &Path, bytes: &[u8]) -> Result<Self, FormatsError> {
        let bad = |problem: String| FormatsError::malformed(path, format!("is not a tokenizer file: {problem}"));
        tokenizer_parts::check(bytes).map_err(bad)?;
        let mut inner = guarded_on(LIBRARY, bytes.len(), || tokenizers::Tokenizer::from_bytes(bytes)).map_err(bad)?;
        inner.with_padding(None);
        guarded(LIBRARY, || inner.with_truncation(None).map(|_| ())).map_err(bad)?;
        let post_processor = inner.get_post_processor().cloned();
        inner.with_post_processor(None::<PostProcessorWrapper>);
        let added = inner.get_added_tokens_decoder();
        let special = added.iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        let id_limit = inner.get_vocab(true).into_values().max().map_or(0, |id| id.saturating_add(1));
        let (file_bytes, sha256) = (bytes.len() as u64, sha256_bytes(bytes));
        let (bos, eos, pad, chat_templates) = (None, None, None, ChatTemplates::default());
        let tokenizer =
            Tokenizer { inner, post_processor, special, bos, eos, pad, chat_templates, id_limit, file_bytes, sha256 };
        Ok(tokenizer)
    }

    /// Whether an id is a special token: one that stands for itself, not for a piece of text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.contains(&id)
    }

    /// The text of ids; unknown ids are passed over.
    ///
    /// # Errors
    /// The library's message.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        guarded(LIBRARY, || self.inner.decode(ids, skip_special))
    }

    /// The id of a token's exact text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The exact text of a token.
    pub fn id_to_token(&self, id: u32) -> Option<String> {
        self.inner.id_to_token(id)
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The token that fills up.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// The Jinja templates of conversations that the folder has.
    pub fn chat_templates(&self) -> &ChatTemplates {
        &self.chat_templates
    }

    /// Number of tokens, added ones included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// One above the largest id; more than [`Tokenizer::vocab_size`] where ids have gaps.
    pub fn id_limit(&self) -> u32 {
        self.id_limit
    }

    /// SHA-256 of `tokenizer.json` as it was read.
    pub fn sha256(&self) -> &str {
        &self.sha256
    }

    /// Size of `tokenizer.json`, from which the memory account estimates what the tokenizer holds.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}

/// The chat templates of a model folder that somebody picks: the default one, and the one for conversations with tools.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChatTemplates {
    /// `chat_template.jinja`, or what `tokenizer_config.json` has.
    pub default: Option<String>,
    /// The one named `tool_use`.
    pub tool_use: Option<String>,
}

/// The template files, or the entry of `tokenizer_config.json`: a text, or a list of named ones. As in transformers, one
/// file puts all the entry's templates aside.
fn chat_templates(folder: &Path, config: &Value) -> Result<ChatTemplates, FormatsError> {
    let file = |name: &str| match json::read_text(&folder.join(name), CONFIG_LIMIT_BYTES, "") {
        Ok(text) => Ok(Some(text)),
        Err(FormatsError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    };
    let more = |name: &str| file(&format!("additional_chat_templates/{name}.jinja"));
    let default = file("chat_template.jinja")?;
    let default = if default.is_some() { default } else { more("default")? };
    let files = ChatTemplates { default, tool_use: more("tool_use")? };
    if files != ChatTemplates::default() {
        return Ok(files);
    }
    let entry = &config["chat_template"];
    let named = |name: &str| {
        let found = entry.as_array()?.iter().find(|entry| entry["name"] == name)?;
        found["template"].as_str().map(str::to_string)
    };
    let default = entry.as_str().map(str::to_string).or_else(|| named("default"));
    Ok(ChatTemplates { default, tool_use: named("tool_use") })
}
