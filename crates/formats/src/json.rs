//! Reading small text files, JSON among them, that may be hostile.
//!
//! Invariant: nothing but a regular file is opened (a pipe would hang, a device never end), never more than a stated
//! number of bytes is read, and a duplicate key is seen where it matters, which serde_json's own map would hide.

use crate::FormatsError;
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::marker::PhantomData;
use std::path::Path;

/// Largest configuration file that is read; real ones take a few kilobytes.
pub(crate) const CONFIG_LIMIT_BYTES: u64 = 16 << 20;

/// Opens a regular file for reading, with its size in bytes.
pub(crate) fn open_regular(path: &Path, remedy: &'static str) -> Result<(File, u64), FormatsError> {
    // Looked at before it is opened: opening a named pipe blocks until somebody writes to it.
    let metadata = std::fs::metadata(path).map_err(|error| match error.kind() {
        ErrorKind::NotFound => FormatsError::missing(path, remedy),
        _ => FormatsError::io(path, "open the file")(error),
    })?;
    if !metadata.is_file() {
        return Err(FormatsError::malformed(path, "is not a regular file; give the path of a file"));
    }
    let file = File::open(path).map_err(FormatsError::io(path, "open the file"))?;
    Ok((file, metadata.len()))
}

/// The bytes of a file of at most `limit_bytes`.
pub(crate) fn read_bytes(path: &Path, limit_bytes: u64, remedy: &'static str) -> Result<Vec<u8>, FormatsError> {
    let (file, length) = open_regular(path, remedy)?;
    let mut bytes = Vec::new();
    // The size may be a lie (a growing file, one under /proc), so what is read is bounded, too.
    file.take(limit_bytes + 1).read_to_end(&mut bytes).map_err(FormatsError::io(path, "read the file"))?;
    if bytes.len() as u64 > limit_bytes {
        let problem =
            format!("holds {} bytes, more than the {limit_bytes} such a file may have", length.max(limit_bytes));
        return Err(FormatsError::malformed(path, problem));
    }
    Ok(bytes)
}

/// The text of a file of at most `limit_bytes`.
pub(crate) fn read_text(path: &Path, limit_bytes: u64, remedy: &'static str) -> Result<String, FormatsError> {
    String::from_utf8(read_bytes(path, limit_bytes, remedy)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        FormatsError::malformed(path, format!("is not UTF-8 text: byte {at} begins no character"))
    })
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
