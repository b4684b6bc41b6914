//! Reading small text files, JSON among them, that may be hostile.
//!
//! Invariant: files come through the door in `files`, with a bound; and a duplicate key is seen where it matters, which
//! serde_json's own map would hide.

use crate::{FormatsError, files};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::marker::PhantomData;
use std::path::Path;

/// Largest configuration file that is read.
pub(crate) const CONFIG_LIMIT_BYTES: u64 = files::SETTINGS_LIMIT_BYTES;

/// Opens a regular file for reading, with its size in bytes.
pub(crate) fn open_regular(path: &Path, remedy: &'static str) -> Result<(File, u64), FormatsError> {
    files::open_file(path).map_err(FormatsError::reading(path, remedy))
}

/// The bytes of a file of at most `limit_bytes`.
pub(crate) fn read_bytes(path: &Path, limit_bytes: u64, remedy: &'static str) -> Result<Vec<u8>, FormatsError> {
    files::read_file(path, limit_bytes).map_err(FormatsError::reading(path, remedy))
}

/// The text of a file of at most `limit_bytes`.
pub(crate) fn read_text(path: &Path, limit_bytes: u64, remedy: &'static str) -> Result<String, FormatsError> {
    files::read_text_file(path, limit_bytes).map_err(FormatsError::reading(path, remedy))
}

/// Parses JSON; the error carries line and column.
pub(crate) fn parse<'a, T: Deserialize<'a>>(path: &Path, text: &'a str) -> Result<T, FormatsError> {
    serde_json::from_str(text).map_err(|error| FormatsError::malformed(path, format!("is not valid JSON: {error}")))
}

/// An optional JSON file: `Null` if there is none.
pub(crate) fn read_optional(path: &Path) -> Result<Value, FormatsError> {
    match read_text(path, CONFIG_LIMIT_BYTES, "") {
        Ok(text) => parse(path, &text),
        Err(FormatsError::Missing { .. }) => Ok(Value::Null),
        Err(error) => Err(error),
    }
}

/// A JSON object in which a key that occurs twice is an error.
#[derive(Debug)]
pub(crate) struct UniqueMap<V>(pub BTreeMap<String, V>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for UniqueMap<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for Entries<V> {
            type Value = UniqueMap<V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<UniqueMap<V>, A::Error> {
                let mut entries = BTreeMap::new();
                while let Some(key) = map.next_key::<String>()? {
                    let value = map.next_value()?;
                    if let Some(key) = insert_new(&mut entries, key, value) {
                        return Err(A::Error::custom(format!(
                            "the key {:?} occurs twice",
                            crate::error::excerpt(&key)
                        )));
                    }
                }
                Ok(UniqueMap(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}

/// Inserts a new key, or gives back the key that was there already.
pub(crate) fn insert_new<V>(map: &mut BTreeMap<String, V>, key: String, value: V) -> Option<String> {
    match map.entry(key) {
        std::collections::btree_map::Entry::Vacant(entry) => {
            entry.insert(value);
            None
        }
        std::collections::btree_map::Entry::Occupied(entry) => Some(entry.key().clone()),
    }
}
