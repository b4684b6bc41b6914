//! Trains the byte-level BPE of the quickstart's model.

use remat_formats::write_atomic;
use serde_json::json;
use std::error::Error;
use std::path::Path;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::{AddedToken, NormalizerWrapper, TokenizerBuilder};

const VOCABULARY: usize = 4096;
/// Ends every sequence.
pub(super) const END: &str = "<|endoftext|>";

/// Trains on the rows, writes `tokenizer.json` and `tokenizer_config.json`, and returns the size of the vocabulary.
pub(super) fn train(rows: &[String], folder: &Path) -> Result<usize, Box<dyn Error>> {
    let failed = |error: tokenizers::Error| error.to_string();
    let mut tokenizer = TokenizerBuilder::new()
        .with_model(BPE::default())
        .with_normalizer(None::<NormalizerWrapper>)
        .with_pre_tokenizer(Some(ByteLevel::new(false, true, true)))
        .with_post_processor(Some(ByteLevel::new(false, true, false)))
        .with_decoder(Some(ByteLevel::default()))
        .build()
        .map_err(failed)?;
    let mut trainer = BpeTrainer::builder()
        .vocab_size(VOCABULARY)
        .min_frequency(2)
        .initial_alphabet(ByteLevel::alphabet().into_iter().collect())
        .special_tokens(vec![AddedToken::from(END.to_string(), true)])
        .show_progress(false)
        .build();
    tokenizer.train(&mut trainer, rows.iter().map(String::as_str)).map_err(failed)?;
    let text = tokenizer.to_string(true).map_err(failed)?;
    write_atomic(&folder.join("tokenizer.json"), text.as_bytes())?;
    let config = json!({ "eos_token": END, "model_max_length": 256, "tokenizer_class": "PreTrainedTokenizerFast" });
    write_atomic(&folder.join("tokenizer_config.json"), format!("{config:#}\n").as_bytes())?;
    Ok(tokenizer.get_vocab_size(true))
}
