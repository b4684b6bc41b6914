//! The model folder's tokenizer as the data crate wants it. Invariant: the token that ends a text is the tokenizer's own;
//! where its settings name none, the model's configuration does.

use remat_data::TokenSource;
use remat_formats::{FormatsError, ModelConfig, Tokenizer};
use std::path::Path;

/// A tokenizer and the end of text it is used with.
pub(crate) struct ModelTokens {
    tokenizer: Tokenizer,
    eos: Option<u32>,
}

impl ModelTokens {
    /// Of a model folder; `None` if it has no `tokenizer.json`, which is right for rows of token ids.
    pub(crate) fn open(folder: &Path, config: &ModelConfig) -> Result<Option<Self>, FormatsError> {
        if !folder.join("tokenizer.json").exists() {
            return Ok(None);
        }
        let tokenizer = Tokenizer::from_dir(folder)?;
        let eos = tokenizer.eos().or_else(|| config.eos_token_ids().first().copied());
        Ok(Some(ModelTokens { tokenizer, eos }))
    }
}

impl TokenSource for ModelTokens {
    fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        self.tokenizer.encode(text, add_special)
    }

    fn eos(&self) -> Option<u32> {
        self.eos
    }
}
