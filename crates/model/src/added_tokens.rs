//! Models with more tokens than their files have: tokens that a file lists, or those of an adapter's own tokenizer.
//!
//! Invariant: the tokens that were there keep their rows of embedding and head. A new row is the mean of those, as after
//! transformers' `resize_token_embeddings`, which draws new rows from a normal distribution about that mean whose covariance is a
//! billionth of the rows' own: here it is the mean itself, so that it depends on no generator. The vocabulary grows to as many
//! tokens as the tokenizer has, and not at all where the model has rows to spare. Look next at `source`, which reads the rows.

use crate::adapter::{HEAD_MODULE, embedding_module};
use crate::source::Source;
use crate::{Model, ModelError};
use remat_formats::{
    FormatsError, SettingName, TOKENIZER_FILE_LIMIT_BYTES, TokenIndices, Tokenizer, grow_tokenizer, read_file,
    read_new_tokens,
};
use std::path::Path;

/// The file that has a tokenizer.
const TOKENIZER: &str = "tokenizer.json";

impl Model {
    /// The model with the tokens that a file lists, one a line, added to its tokenizer and, where they need it, to its
    /// vocabulary. What is saved beside an adapter or a model has the new tokenizer.
    ///
    /// # Errors
    /// A preset, which has no tokenizer; a file that is missing or malformed; a token that is there already.
    pub fn with_added_tokens(self, file: &Path) -> Result<Self, ModelError> {
        if let Source::Random(_) = self.source {
            let problem = "needs the tokenizer of a model folder, and a preset has none";
            return Err(ModelError::Setting(format!("{} {problem}", SettingName("add-tokens"))));
        }
        let tokens = read_new_tokens(file)?;
        let grown = grow_tokenizer(&self.folder.join(TOKENIZER), &tokens)?;
        let vocabulary = grown.ids.last().map_or(0, |&last| last as usize + 1);
        let mut model = self.grown(vocabulary);
        model.companions.replace(TOKENIZER, grown.json);
        model.added_tokens = grown.ids.into_iter().map(|id| id as usize).collect();
        Ok(model)
    }

    /// The model as an adapter has it that was trained with more tokens: with the tokenizer beside the adapter, if that has
    /// higher ids than the model's own, and as many rows as that needs.
    ///
    /// # Errors
    /// A tokenizer file that cannot be read.
    pub fn with_tokens_of(self, adapter: &Path) -> Result<Self, ModelError> {
        if let Source::Random(_) = self.source {
            return Ok(self);
        }
        let read = |folder: &Path| -> Result<_, ModelError> {
            let path = folder.join(TOKENIZER);
            match read_file(&path, TOKENIZER_FILE_LIMIT_BYTES).map_err(FormatsError::reading(&path, "")) {
                Ok(bytes) => Ok(Some((path, bytes))),
                Err(FormatsError::Missing { .. }) => Ok(None),
                Err(error) => Err(error.into()),
            }
        };
        let Some((path, bytes)) = read(adapter)? else { return Ok(self) };
        let own = read(&self.folder)?;
        // Reading a tokenizer takes a while: most are the model's own.
        if own.as_ref().is_some_and(|(_, own)| *own == bytes) {
            return Ok(self);
        }
        let end = Tokenizer::from_bytes(&path, &bytes)?.id_limit() as usize;
        let own_end = own.map(|(path, bytes)| Tokenizer::from_bytes(&path, &bytes)).transpose()?;
        if own_end.is_some_and(|own| own.id_limit() as usize >= end) {
            return Ok(self);
        }
        let mut model = self.grown(end);
        model.companions.replace(TOKENIZER, bytes);
        Ok(model)
    }

    /// With rows for tokens below `vocabulary`.
    fn grown(mut self, vocabulary: usize) -> Self {
        let before = self.config.vocab_size;
        if vocabulary <= before {
            return self;
        }
        let tied = self.config.tie_word_embeddings;
        let head = (!tied).then(|| self.config.head_weight());
        let bias = self.config.head_bias.then(|| format!("{}.bias", self.config.block.names.head));
        if let Source::Files(_, names) = &mut self.source {
            names.grow([self.config.embedding_weight()].into_iter().chain(head).chain(bias), before);
        }
        self.config.vocab_size = vocabulary;
        self
    }

    /// The rows of the tokens that were added, of embedding and head: what is trained of them where nothing else is said.
    pub fn added_rows(&self) -> Option<TokenIndices> {
        if self.added_tokens.is_empty() {
            return None;
        }
        let rows = || self.added_tokens.clone();
        if self.config.tie_word_embeddings {
            return Some(TokenIndices::Embedding(rows()));
        }
        let embedding = embedding_module(&self.config);
        let name = embedding.rsplit('.').next().unwrap_or(&embedding).to_string();
        Some(TokenIndices::Modules(vec![(name, rows()), (HEAD_MODULE.to_string(), rows())]))
    }

    /// The text of the model's `tokenizer.json`, where it is another than its folder's.
    pub fn tokenizer_json(&self) -> Option<&[u8]> {
        self.companions.replaced(TOKENIZER)
    }
}
