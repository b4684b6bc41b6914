//! Typed access to the keys of a JSON object; every complaint names file and key.
//!
//! Invariant: a number that comes out is finite and within stated bounds, so that callers can multiply it.

use crate::FormatsError;
use crate::error::excerpt;
use serde_json::Value;
use std::path::Path;

/// A JSON object and where it came from.
pub(crate) struct Keys<'a> {
    path: &'a Path,
    /// Name of the object in its file, with a trailing dot; empty for the whole file.
    prefix: String,
    object: &'a Value,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(path: &'a Path, object: &'a Value) -> Result<Self, FormatsError> {
        if !object.is_object() {
            return Err(FormatsError::malformed(path, format!("must hold a JSON object, not {}", shown(object))));
        }
        Ok(Keys { path, prefix: String::new(), object })
    }

    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> FormatsError {
        FormatsError::key(self.path, &format!("{}{key}", self.prefix), problem)
    }

    fn wrong(&self, key: &str, value: &Value, expected: &str) -> FormatsError {
        self.error(key, format!("is {}; it must be {expected}", shown(value)))
    }

    /// Whether the key is there, `null` or not.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.object.get(key).is_some()
    }

    /// The value of a key; `null` counts as absent.
    pub(crate) fn value(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    /// A nested object.
    pub(crate) fn object(&self, key: &str) -> Result<Option<Keys<'a>>, FormatsError> {
        match self.value(key) {
            None => Ok(None),
            Some(object) if object.is_object() => {
                Ok(Some(Keys { path: self.path, prefix: format!("{}{key}.", self.prefix), object }))
            }
            Some(other) => Err(self.wrong(key, other, "an object")),
        }
    }

    /// All keys and values.
    pub(crate) fn entries(&self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        self.object.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value))
    }

    pub(crate) fn string(&self, key: &str) -> Result<Option<&'a str>, FormatsError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(key, other, "a string")),
        }
    }

    /// A list of strings; empty if the key is absent.
    pub(crate) fn strings(&self, key: &str) -> Result<Vec<String>, FormatsError> {
        let Some(value) = self.value(key) else { return Ok(Vec::new()) };
        let list = value.as_array().and_then(|list| list.iter().map(|v| v.as_str().map(str::to_string)).collect());
        list.ok_or_else(|| self.wrong(key, value, "a list of strings"))
    }

    pub(crate) fn flag(&self, key: &str, default: bool) -> Result<bool, FormatsError> {
        match self.value(key) {
            None => Ok(default),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(self.wrong(key, other, "true or false")),
        }
    }

    /// A size from 1 to `most`, if the key is there.
    pub(crate) fn maybe_size(&self, key: &str, most: usize) -> Result<Option<usize>, FormatsError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_u64() {
            Some(size) if (1..=most as u64).contains(&size) => Ok(Some(size as usize)),
            _ => Err(self.wrong(key, value, &format!("a whole number from 1 to {most}"))),
        }
    }

    /// A size from 1 to `most`; transformers' default if the key is absent.
    pub(crate) fn size(&self, key: &str, default: usize, most: usize) -> Result<usize, FormatsError> {
        Ok(self.maybe_size(key, most)?.unwrap_or(default))
    }

    /// A size that goes by two names; both may be there if they agree.
    pub(crate) fn size_by_either(
        &self,
        [key, other]: [&str; 2],
        default: usize,
        most: usize,
    ) -> Result<usize, FormatsError> {
        match (self.maybe_size(key, most)?, self.maybe_size(other, most)?) {
            (Some(size), Some(second)) if size != second => {
                Err(self.error(key, format!("is {size}, and {other}, which means the same, is {second}; keep one")))
            }
            (size, second) => Ok(size.or(second).unwrap_or(default)),
        }
    }

    /// A finite number, if the key is there.
    pub(crate) fn maybe_number(&self, key: &str) -> Result<Option<f64>, FormatsError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        match value.as_f64() {
            Some(number) if number.is_finite() => Ok(Some(number)),
            _ => Err(self.wrong(key, value, "a number")),
        }
    }

    /// A number above zero, and within the range of f32, if the key is there.
    pub(crate) fn maybe_positive(&self, key: &str) -> Result<Option<f64>, FormatsError> {
        match self.maybe_number(key)? {
            Some(number) if !(f64::from(f32::MIN_POSITIVE)..=f64::from(f32::MAX)).contains(&number) => {
                Err(self.error(key, format!("is {number:e}; it must be above 0 and fit 32-bit floating point")))
            }
            number => Ok(number),
        }
    }

    /// A number above zero; transformers' default if the key is absent.
    pub(crate) fn positive(&self, key: &str, default: f64) -> Result<f64, FormatsError> {
        Ok(self.maybe_positive(key)?.unwrap_or(default))
    }

    /// A number above zero that has to be there.
    pub(crate) fn required_positive(&self, key: &str) -> Result<f64, FormatsError> {
        self.maybe_positive(key)?.ok_or_else(|| self.error(key, "is missing; it must be a number above 0"))
    }

    /// A probability below one.
    pub(crate) fn probability(&self, key: &str, default: f64) -> Result<f64, FormatsError> {
        match self.maybe_number(key)?.unwrap_or(default) {
            number if (0.0..1.0).contains(&number) => Ok(number),
            number => Err(self.error(key, format!("is {number}; it must be at least 0 and below 1"))),
        }
    }

    /// One token id, a list of them, or none. `default` if the key is absent; a `null` means none.
    pub(crate) fn token_ids(&self, key: &str, default: Option<u32>) -> Result<Vec<u32>, FormatsError> {
        let id = |value: &Value| value.as_u64().and_then(|id| u32::try_from(id).ok());
        let bad = |value: &Value| self.wrong(key, value, "a token id or a list of them");
        match self.value(key) {
            None if self.has(key) => Ok(Vec::new()),
            None => Ok(default.into_iter().collect()),
            Some(Value::Array(list)) => list.iter().map(|value| id(value).ok_or_else(|| bad(value))).collect(),
            Some(value) => Ok(vec![id(value).ok_or_else(|| bad(value))?]),
        }
    }
}

/// A value as JSON, short enough for a message.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        // Not printed to be cut afterwards: a hostile file may hold megabytes here.
        Value::Array(list) => format!("a list of {}", list.len()),
        Value::Object(map) => format!("an object of {} keys", map.len()),
        Value::String(text) => format!("{:?}", excerpt(text)),
        other => other.to_string(),
    }
}
