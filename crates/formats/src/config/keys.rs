//! Typed access to the keys of a JSON object; every complaint names file and key.

use crate::FormatsError;
use serde_json::Value;
use std::path::Path;

/// Sizes above this are a corrupt file, not a model.
const LARGEST_SIZE: u64 = 1 << 30;

/// A JSON object and where it came from.
pub(super) struct Keys<'a> {
    path: &'a Path,
    object: &'a Value,
}

impl<'a> Keys<'a> {
    pub(super) fn new(path: &'a Path, object: &'a Value) -> Result<Self, FormatsError> {
        if !object.is_object() {
            return Err(FormatsError::malformed(path, "must hold a JSON object"));
        }
        Ok(Keys { path, object })
    }

    pub(super) fn error(&self, key: &str, problem: impl Into<String>) -> FormatsError {
        FormatsError::key(self.path, key, problem)
    }

    /// The value of a key; `null` counts as absent.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A nested object.
    pub(super) fn object(&self, key: &str) -> Result<Option<Keys<'a>>, FormatsError> {
        match self.get(key) {
            None => Ok(None),
            Some(object) if object.is_object() => Ok(Some(Keys { path: self.path, object })),
            Some(other) => Err(self.error(key, format!("is {other}; it must be an object"))),
        }
    }

    pub(super) fn string(&self, key: &str) -> Result<Option<String>, FormatsError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(other) => Err(self.error(key, format!("is {other}; it must be a string"))),
        }
    }

    pub(super) fn flag(&self, key: &str, default: bool) -> Result<bool, FormatsError> {
        match self.get(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.error(key, format!("is {other}; it must be true or false"))),
        }
    }

    /// A positive size, if the key is there.
    pub(super) fn maybe_size(&self, key: &str) -> Result<Option<usize>, FormatsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=LARGEST_SIZE).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.error(key, format!("is {value}; it must be a whole number from 1 to {LARGEST_SIZE}"))),
        }
    }

    /// A positive size; transformers' default if the key is absent.
    pub(super) fn size(&self, key: &str, default: usize) -> Result<usize, FormatsError> {
        Ok(self.maybe_size(key)?.unwrap_or(default))
    }

    /// A finite number, if the key is there.
    pub(super) fn maybe_number(&self, key: &str) -> Result<Option<f64>, FormatsError> {
        let Some(value) = self.get(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.error(key, format!("is {value}; it must be a number"))),
        }
    }

    /// A number above zero.
    pub(super) fn positive(&self, key: &str, default: f64) -> Result<f64, FormatsError> {
        match self.maybe_number(key)?.unwrap_or(default) {
            number if number > 0.0 => Ok(number),
            number => Err(self.error(key, format!("is {number}; it must be above 0"))),
        }
    }

    /// A probability below one.
    pub(super) fn probability(&self, key: &str, default: f64) -> Result<f64, FormatsError> {
        match self.maybe_number(key)?.unwrap_or(default) {
            number if (0.0..1.0).contains(&number) => Ok(number),
            number => Err(self.error(key, format!("is {number}; it must be at least 0 and below 1"))),
        }
    }

    /// One token id, a list of them, or none.
    pub(super) fn token_ids(&self, key: &str) -> Result<Vec<u32>, FormatsError> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let bad = |value: &Value| self.error(key, format!("is {value}; it must be a token id or a list of them"));
        match self.get(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => list.iter().map(|value| id(value).ok_or_else(|| bad(value))).collect(),
            Some(value) => Ok(vec![id(value).ok_or_else(|| bad(value))?]),
        }
    }
}
