//! The texts that a run samples, as token ids, and how they are continued: as `remat generate` would with the run's seed.
//!
//! Invariant: what a text is continued with depends on the model's parameters, the settings and the model folder alone, so
//! that a run which was stopped and goes on writes the same samples.

use crate::generate::decoding::{Decoding, cache_shape};
use crate::{Sampling, TrainConfig, TrainError};
use remat_data::ModelTokens;
use remat_formats::SettingName;
use remat_formats::{GenerationConfig, Tokenizer};
use remat_model::{CacheShape, Model};

/// Tokens of a sample unless the settings say otherwise.
const DEFAULT_TOKENS: usize = 64;

/// One text.
pub(crate) struct SampleText {
    pub(crate) text: String,
    pub(crate) ids: Vec<u32>,
}

/// All of them.
pub(crate) struct SampleTexts {
    pub(crate) texts: Vec<SampleText>,
    tokens: ModelTokens,
    pub(crate) sampling: Sampling,
    /// Ids that end a text.
    pub(crate) stop: Vec<u32>,
    /// Tokens to generate at most.
    pub(crate) max_tokens: usize,
    /// Updates between two samples, if the settings say.
    pub(crate) every: Option<u64>,
    /// Of the caches, which hold the longest text and what follows.
    pub(crate) shape: CacheShape,
    vocabulary: usize,
}

impl SampleTexts {
    /// Those of the settings, if there are any; `tokens` are of the model's folder.
    ///
    /// # Errors
    /// A model without a tokenizer, a text without a token or as long as the model has positions.
    pub(crate) fn of(
        config: &TrainConfig,
        model: &Model,
        tokens: Option<ModelTokens>,
    ) -> Result<Option<Self>, TrainError> {
        if config.sample.is_empty() {
            return Ok(None);
        }
        let refuse = |problem: String| Err(TrainError::BadFlag { key: "sample", problem });
        let Some(tokens) = tokens else {
            let what = if config.preset.is_some() { "a preset has none" } else { "this folder has no tokenizer.json" };
            return refuse(format!("needs a tokenizer, and {what}; give {} DIR with one", SettingName("model")));
        };
        let mut texts = Vec::with_capacity(config.sample.len());
        for text in &config.sample {
            match tokens.tokenizer().encode_prompt(text) {
                Ok(ids) if ids.is_empty() => return refuse(format!("{text:?} has no token; give at least one")),
                Ok(ids) => texts.push(SampleText { text: text.clone(), ids }),
                Err(problem) => return refuse(format!("{text:?}: {problem}")),
            }
        }
        let longest = texts.iter().map(|text| text.ids.len()).max().unwrap_or(0);
        let (positions, vocabulary) = (model.config().max_position_embeddings, model.config().vocab_size);
        let room = positions.saturating_sub(longest);
        if room == 0 {
            return refuse(format!("a text has {longest} tokens, and this model {positions} positions; shorten it"));
        }
        let max_tokens = config.sample_tokens.unwrap_or(DEFAULT_TOKENS).min(room);
        let settings = GenerationConfig::from_dir(model.folder())?;
        let ends = model.config().eos_token_ids.iter().chain(&settings.eos_token_ids).copied();
        Ok(Some(SampleTexts {
            sampling: Sampling::asked_for(&settings, config.seed),
            stop: ends.chain(tokens.tokenizer().eos()).collect(),
            shape: cache_shape(longest + max_tokens),
            every: config.sample_every,
            texts,
            tokens,
            max_tokens,
            vocabulary,
        }))
    }

    /// What texts are read and written with.
    pub(crate) fn tokenizer(&self) -> &Tokenizer {
        self.tokens.tokenizer()
    }

    /// Tokens that the model knows.
    pub(crate) fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// What is held of them beside the tokenizer, the buffers of sampling included.
    pub(crate) fn bytes(&self) -> usize {
        let text = |text: &SampleText| text.text.len() + size_of_val(&text.ids[..]);
        self.texts.iter().map(text).sum::<usize>() + Decoding::bytes(self.vocabulary)
    }
}
