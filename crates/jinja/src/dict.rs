//! Dictionaries in the order of their making, as Python's. Invariant: a key is there once; keys are texts, numbers, truth
//! values and nothing, so comparing two of them takes one step.

use crate::error::Result;
use crate::value::{Value, nested};
use std::collections::HashMap;
use std::sync::Arc;

/// Dictionaries of more entries are looked up by hash.
const INDEXED_FROM: usize = 8;

/// A dictionary.
#[derive(Debug, Default)]
pub struct Dict {
    pub(crate) entries: Vec<(Value, Value)>,
    index: HashMap<Arc<str>, usize>,
    pub(crate) depth: u16,
    pub(crate) message: Option<u32>,
}

impl Dict {
    /// Entries in their order.
    pub fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    /// Which message of the conversation this is.
    pub fn message(&self) -> Option<u32> {
        self.message
    }

    /// This dictionary as a message of a conversation.
    pub fn as_message(mut self, message: u32) -> Value {
        self.message = Some(message);
        Value::Dict(Arc::new(self))
    }

    /// The value of a text.
    pub fn get_str(&self, key: &str) -> Option<&Value> {
        if self.entries.len() > INDEXED_FROM {
            return self.index.get(key).map(|&at| &self.entries[at].1);
        }
        self.entries.iter().find(|(other, _)| other.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The value of a key. Keys that are no texts are few, and are looked for one by one.
    pub(crate) fn get(&self, key: &Value) -> Option<&Value> {
        match key {
            Value::Str(text) => self.get_str(&text.text),
            key => self.entries.iter().find(|(other, _)| other == key).map(|(_, value)| value),
        }
    }

    /// Steps that a look-up takes.
    pub(crate) fn look_up_steps(&self, key: &Value) -> usize {
        if matches!(key, Value::Str(_)) { 1 } else { 1 + self.entries.len() }
    }

    /// Puts a value under a key: behind the others, or in the place of the key's other value.
    ///
    /// # Errors
    /// Nested too deep.
    pub fn insert(&mut self, key: Value, value: Value) -> Result<()> {
        self.depth = self.depth.max(nested([key.depth(), value.depth()].into_iter())?);
        let place = match &key {
            Value::Str(text) if self.entries.len() > INDEXED_FROM => self.index.get(&*text.text).copied(),
            key => self.entries.iter().position(|(other, _)| other == key),
        };
        if let Some(place) = place {
            self.entries[place].1 = value;
            return Ok(());
        }
        if self.entries.len() == INDEXED_FROM {
            let texts = self.entries.iter().enumerate().filter_map(|(at, (key, _))| match key {
                Value::Str(text) => Some((text.text.clone(), at)),
                _ => None,
            });
            self.index = texts.collect();
        }
        if let Value::Str(text) = &key
            && self.entries.len() >= INDEXED_FROM
        {
            self.index.insert(text.text.clone(), self.entries.len());
        }
        self.entries.push((key, value));
        Ok(())
    }
}
