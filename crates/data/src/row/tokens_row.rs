//! Rows of token ids: the ids, their labels, and the masks that stand for labels. Invariant: a label is -100 wherever one
//! of the masks says so; every list has one entry per token. Look next at `encode`, which holds ids to the vocabulary.

use super::{Fields, Row};
use crate::error::DataError;
use crate::tokens::IGNORED_LABEL;
use serde_json::value::RawValue;

/// Masks of what is trained on: 1 is trained, 0 is not. TRL writes the first two.
const TRAINED_MASKS: [&str; 3] = ["completion_mask", "assistant_masks", "loss_mask"];
const IGNORED: i64 = IGNORED_LABEL as i64;

impl Fields<'_> {
    pub(super) fn tokens(&mut self) -> Result<Row, DataError> {
        let mut input_ids = self.integers("input_ids")?.unwrap_or_default();
        let mut labels = self.integers("labels")?;
        if let Some(labels) = &labels
            && labels.len() != input_ids.len()
        {
            let (place, ids, labels) = (self.place.clone(), input_ids.len(), labels.len());
            return Err(DataError::LabelCount { place, ids, labels });
        }
        for key in TRAINED_MASKS {
            if let Some(mask) = self.mask(key, input_ids.len())? {
                let labels = labels.get_or_insert_with(|| input_ids.clone());
                labels.iter_mut().zip(mask).filter(|(_, trained)| !trained).for_each(|(label, _)| *label = IGNORED);
            }
        }
        if let Some(attended) = self.mask("attention_mask", input_ids.len())? {
            let tokens = self.without_padding(&attended)?;
            input_ids = input_ids[tokens.clone()].to_vec();
            labels = labels.map(|labels| labels[tokens].to_vec());
        }
        Ok(Row::Tokens { input_ids, labels })
    }

    /// The tokens that are attended to: all but padding at the ends.
    fn without_padding(&self, attended: &[bool]) -> Result<std::ops::Range<usize>, DataError> {
        let start = attended.iter().position(|&attended| attended).unwrap_or(attended.len());
        let end = attended.iter().rposition(|&attended| attended).map_or(start, |last| last + 1);
        match attended[start..end].iter().position(|&attended| !attended) {
            Some(index) => Err(DataError::BadMessage {
                place: self.place.clone(),
                key: format!("attention_mask[{}]", start + index),
                expected: "1: only padding at the ends may be masked, for every token here sees all before it"
                    .to_string(),
            }),
            None => Ok(start..end),
        }
    }

    /// A mask with one entry per token: 0, 1, false or true.
    fn mask(&mut self, key: &str, tokens: usize) -> Result<Option<Vec<bool>>, DataError> {
        let Some(raw) = self.take(key) else { return Ok(None) };
        let mask = match serde_json::from_str::<Vec<bool>>(raw.get()) {
            Ok(mask) => mask,
            Err(_) => {
                let numbers = self.whole_numbers(key, raw)?;
                if let Some(index) = numbers.iter().position(|number| !matches!(number, 0 | 1)) {
                    let (place, key) = (self.place.clone(), format!("{key}[{index}]"));
                    return Err(DataError::BadMessage { place, key, expected: "0 or 1".to_string() });
                }
                numbers.into_iter().map(|number| number == 1).collect()
            }
        };
        if mask.len() != tokens {
            let expected = format!("a list of {tokens} entries, one per token of `input_ids`, but has {}", mask.len());
            return Err(DataError::BadMessage { place: self.place.clone(), key: key.to_string(), expected });
        }
        Ok(Some(mask))
    }

    fn integers(&mut self, key: &str) -> Result<Option<Vec<i64>>, DataError> {
        self.take(key).map(|raw| self.whole_numbers(key, raw)).transpose()
    }

    fn whole_numbers(&self, key: &str, raw: &RawValue) -> Result<Vec<i64>, DataError> {
        if let Ok(numbers) = serde_json::from_str(raw.get()) {
            return Ok(numbers);
        }
        let expected = "an array of whole numbers";
        let Ok(elements) = serde_json::from_str::<Vec<&RawValue>>(raw.get()) else {
            return Err(self.wrong_type(key.to_string(), expected, raw));
        };
        let is_integer = |element: &RawValue| serde_json::from_str::<i64>(element.get()).is_ok();
        match elements.iter().position(|element| !is_integer(element)) {
            Some(index) => Err(self.wrong_type(format!("{key}[{index}]"), "a whole number", elements[index])),
            None => Err(self.wrong_type(key.to_string(), expected, raw)),
        }
    }
}
