//! JSON as it stands in a file: what kind of value a text is, where it breaks, and how a piece of it is shown. Invariant:
//! nothing that is shown holds a control character. Look next at `row`, which reads objects with it.

use crate::DataError;
use crate::error::RowPlace;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::fmt;
use std::marker::PhantomData;

pub(crate) const OBJECT: &str = "an object";
pub(crate) const ARRAY: &str = "an array";
pub(crate) const STRING: &str = "a string";
pub(crate) const BOOLEAN: &str = "a boolean";
pub(crate) const NULL: &str = "null";

/// The entries of an object in their order; a key that is there twice is there twice.
pub(crate) struct Entries<V>(pub(crate) Vec<(String, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OfObject<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for OfObject<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(OfObject(PhantomData))
    }
}

/// The kind of a value, in words.
pub(crate) fn type_name(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => OBJECT,
        Some(b'[') => ARRAY,
        Some(b'"') => STRING,
        Some(b't' | b'f') => BOOLEAN,
        Some(b'n') => NULL,
        _ => "a number",
    }
}

/// Whether a value is null, or a text, list or object with nothing in it.
pub(crate) fn is_nothing(raw: &RawValue) -> bool {
    let text = raw.get().as_bytes();
    let holds = |text: &[u8]| text[1..text.len() - 1].iter().any(|byte| !byte.is_ascii_whitespace());
    match text.first() {
        Some(b'n') => true,
        Some(b'"') => text.len() == 2,
        Some(b'[' | b'{') => !holds(text),
        _ => false,
    }
}

/// A value as JSON text.
pub(crate) fn raw(value: &impl serde::Serialize) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).expect("texts and values that were read are JSON")
}

/// The kind of a value and the beginning of it.
pub(crate) fn described(raw: &RawValue) -> String {
    let name = type_name(raw);
    // Long values say less than their type.
    if name == NULL { name.to_string() } else { format!("{name} (`{}`)", shorten(raw.get(), 24)) }
}

pub(crate) fn shorten(text: &str, limit: usize) -> String {
    let mut short: String = text.chars().take(limit).flat_map(visible).collect();
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}

/// Keys for a message, shortened if there are many or if they are long.
pub(crate) fn listed<'a>(keys: impl ExactSizeIterator<Item = &'a str>) -> String {
    const MOST: usize = 8;
    let more = if keys.len() > MOST { ", …" } else { "" };
    let shown: Vec<String> = keys.take(MOST).map(|key| format!("`{}`", shorten(key, 40))).collect();
    if shown.is_empty() { "(none)".to_string() } else { format!("{}{more}", shown.join(", ")) }
}

/// Control characters would hide what is wrong, or steer the terminal.
fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

pub(crate) fn not_json(json: &str, error: &serde_json::Error, place: &RowPlace) -> DataError {
    // A row of a JSON array may span lines; the parser counts both.
    let line_start = json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    not_json_at(json, line_start + error.column(), error, place)
}

/// `offset` is how many bytes of `json` the parser had taken, the offending one included.
pub(crate) fn not_json_at(json: &str, offset: usize, error: &serde_json::Error, place: &RowPlace) -> DataError {
    let mut at = offset.saturating_sub(1).min(json.len());
    while !json.is_char_boundary(at) {
        at -= 1;
    }
    let (before, after) = json.split_at(at);
    let line_before = before.rsplit('\n').next().unwrap_or("");
    let place = RowPlace { line: place.line + before.matches('\n').count() as u64, ..place.clone() };
    let skip = line_before.chars().count().saturating_sub(16);
    let left: String = line_before.chars().skip(skip).flat_map(visible).collect();
    let excerpt = format!("{}{left}{}", if skip > 0 { "…" } else { "" }, shorten(after.trim_end(), 16));
    DataError::NotJson { place, column: line_before.chars().count() + 1, reason: reason(error), excerpt }
}

/// The parser's words without its own position, which counts within the row.
pub(crate) fn reason(error: &serde_json::Error) -> String {
    let words = error.to_string();
    match words.rfind(" at line ") {
        Some(end) => words[..end].to_string(),
        None => words,
    }
}
