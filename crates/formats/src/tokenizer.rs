//! `tokenizer.json` and what `tokenizer_config.json` says of special tokens.
//!
//! Invariant: encoding and decoding are the `tokenizers` library's own; nothing is retokenised here.

use crate::FormatsError;
use serde_json::Value;
use std::path::Path;

/// A tokenizer with its special tokens.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    bos: Option<u32>,
    eos: Option<u32>,
    add_bos: Option<bool>,
    file_bytes: u64,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer").field("bos", &self.bos).field("eos", &self.eos).finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads `tokenizer.json` and, if it is there, `tokenizer_config.json` of a model folder.
    ///
    /// # Errors
    /// A missing or malformed file.
    pub fn from_dir(folder: &Path) -> Result<Self, FormatsError> {
        let path = folder.join("tokenizer.json");
        let bytes = std::fs::read(&path).map_err(FormatsError::io(&path, "read the tokenizer"))?;
        let inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| FormatsError::malformed(&path, format!("not a tokenizer file: {error}")))?;
        let mut tokenizer = Tokenizer { inner, bos: None, eos: None, add_bos: None, file_bytes: bytes.len() as u64 };
        let path = folder.join("tokenizer_config.json");
        match std::fs::read_to_string(&path) {
            Ok(text) => tokenizer.read_config(&path, &text)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(FormatsError::Io { path, action: "read the tokenizer's settings", source }),
        }
        Ok(tokenizer)
    }

    fn read_config(&mut self, path: &Path, text: &str) -> Result<(), FormatsError> {
        let json: Value = serde_json::from_str(text).map_err(|e| FormatsError::malformed(path, e.to_string()))?;
        let id = |key: &str| {
            let token = json[key].as_str().or_else(|| json[key]["content"].as_str())?;
            self.inner.token_to_id(token)
        };
        (self.bos, self.eos) = (id("bos_token"), id("eos_token"));
        self.add_bos = json["add_bos_token"].as_bool();
        Ok(())
    }

    /// Ids of a text; with `add_special`, the special tokens that the tokenizer puts around a sequence, too.
    ///
    /// # Errors
    /// The library's message, for a text its normaliser refuses.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        let encoding = self.inner.encode_fast(text, add_special).map_err(|error| error.to_string())?;
        let mut ids = encoding.get_ids().to_vec();
        if let (true, Some(bos), Some(add_bos)) = (add_special, self.bos, self.add_bos) {
            // An explicit `add_bos_token` overrules the file's own post-processor, as transformers has it.
            match (add_bos, ids.first() == Some(&bos)) {
                (true, false) => ids.insert(0, bos),
                (false, true) => {
                    ids.remove(0);
                }
                _ => {}
            }
        }
        Ok(ids)
    }

    /// The text of ids.
    ///
    /// # Errors
    /// The library's message.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> Result<String, String> {
        self.inner.decode(ids, skip_special).map_err(|error| error.to_string())
    }

    /// The id of a token's exact text.
    pub fn token_to_id(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// The token that ends a sequence.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that begins a sequence.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Number of ids, added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.inner.get_vocab_size(true)
    }

    /// Size of `tokenizer.json`, from which the memory account estimates what the tokenizer holds.
    pub fn file_bytes(&self) -> u64 {
        self.file_bytes
    }
}
