//! `generation_config.json`: which tokens end a text, and how the model's makers mean its tokens to be chosen.
//!
//! Invariant: a key that changes which tokens are chosen is carried in [`GenerationConfig`], or named in `unsupported` with
//! a value that is not the one that changes nothing. Defaults are transformers' (`GenerationConfig`): without `do_sample`
//! the most probable token is taken, and with it the 50 most probable ones are chosen among.

use crate::json::{self, CONFIG_LIMIT_BYTES};
use crate::keys::{Keys, shown};
use crate::{FormatsError, own_files};
use serde_json::{Value, json};
use std::path::Path;

const FILE: &str = "generation_config.json";

/// What a model folder says of generation.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GenerationConfig {
    /// Ids that end a text.
    pub eos_token_ids: Vec<u32>,
    /// Whether tokens are chosen at random.
    pub do_sample: bool,
    /// Divides the logits.
    pub temperature: Option<f64>,
    /// Among how many of the most probable tokens; 0 is all.
    pub top_k: Option<usize>,
    /// Among how much of the probability.
    pub top_p: Option<f64>,
    /// Tokens to generate at most.
    pub max_new_tokens: Option<usize>,
    /// What else changes the choice of tokens, as `key = value`.
    pub unsupported: Vec<String>,
}

/// Keys that change which tokens come, each with the value that changes nothing.
fn neutral() -> [(&'static str, Value); 21] {
    [
        ("num_beams", json!(1)),
        ("num_beam_groups", json!(1)),
        ("penalty_alpha", json!(0)),
        ("min_p", json!(0)),
        ("top_h", json!(1)),
        ("typical_p", json!(1)),
        ("epsilon_cutoff", json!(0)),
        ("eta_cutoff", json!(0)),
        ("repetition_penalty", json!(1)),
        ("encoder_repetition_penalty", json!(1)),
        ("no_repeat_ngram_size", json!(0)),
        ("encoder_no_repeat_ngram_size", json!(0)),
        ("min_length", json!(0)),
        ("min_new_tokens", json!(0)),
        ("guidance_scale", json!(1)),
        ("bad_words_ids", json!([])),
        ("suppress_tokens", json!([])),
        ("begin_suppress_tokens", json!([])),
        ("sequence_bias", json!({})),
        ("forced_bos_token_id", Value::Null),
        ("forced_eos_token_id", Value::Null),
    ]
}

impl GenerationConfig {
    /// Of a model folder; the default where it has no such file.
    ///
    /// # Errors
    /// A malformed file, or a key of the wrong type.
    pub fn from_dir(folder: &Path) -> Result<Self, FormatsError> {
        let path = folder.join(FILE);
        match json::read_text(&path, CONFIG_LIMIT_BYTES, own_files::remedy(folder, "")) {
            Ok(text) => GenerationConfig::parse(&path, &text),
            Err(FormatsError::Missing { .. }) => Ok(GenerationConfig::default()),
            Err(error) => Err(error),
        }
    }

    /// Parses the text of a `generation_config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`GenerationConfig::from_dir`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, FormatsError> {
        let json: Value = json::parse(path, text)?;
        let keys = Keys::new(path, &json)?;
        let count = |key| Ok::<_, FormatsError>(keys.maybe_number(key)?.filter(|number| *number >= 0.0));
        let changes = |(key, neutral): &(&str, Value)| {
            let value = keys.value(key)?;
            let same = value == neutral || value.as_f64().is_some_and(|number| Some(number) == neutral.as_f64());
            (!same).then(|| format!("{key} = {}", shown(value)))
        };
        Ok(GenerationConfig {
            eos_token_ids: keys.token_ids("eos_token_id", None)?,
            do_sample: keys.flag("do_sample", false)?,
            temperature: keys.maybe_number("temperature")?,
            top_k: count("top_k")?.map(|k| k as usize),
            top_p: keys.maybe_number("top_p")?,
            max_new_tokens: count("max_new_tokens")?.map(|tokens| tokens as usize),
            unsupported: neutral().iter().filter_map(changes).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<GenerationConfig, FormatsError> {
        GenerationConfig::parse(Path::new("generation_config.json"), text)
    }

    #[test]
    fn ends_are_a_number_or_a_list() {
        let ends = |text: &str| parse(text).map(|config| config.eos_token_ids);
        assert_eq!(ends(r#"{"eos_token_id": 2}"#).expect("a number"), [2]);
        assert_eq!(ends(r#"{"eos_token_id": [128001, 128009]}"#).expect("a list"), [128_001, 128_009]);
        assert!(ends("{}").expect("none").is_empty() && ends(r#"{"eos_token_id": null}"#).expect("none").is_empty());
        for bad in ["-1", "1.5", "\"</s>\"", "[1, \"x\"]", "4294967296"] {
            let error = ends(&format!("{{\"eos_token_id\": {bad}}}")).expect_err(bad).to_string();
            assert!(error.contains("eos_token_id"), "{error}");
        }
    }

    #[test]
    fn what_changes_the_choice_is_read_or_named() {
        let text = r#"{"do_sample": true, "temperature": 0.6, "top_k": 20, "top_p": 0.95, "repetition_penalty": 1.05,
                       "num_beams": 1, "typical_p": 1.0, "transformers_version": "5.0", "max_new_tokens": 64}"#;
        let config = parse(text).expect("valid");
        assert_eq!((config.do_sample, config.temperature, config.top_p), (true, Some(0.6), Some(0.95)));
        assert_eq!((config.top_k, config.max_new_tokens), (Some(20), Some(64)));
        assert_eq!(config.unsupported, ["repetition_penalty = 1.05"]);
        assert!(parse(r#"{"temperature": "warm"}"#).is_err());
    }
}
