//! One row: an object of a known format. Invariant: the first row of a file decides its format, and every later row
//! must have it; keys outside the format are ignored. Look next at `encode` for what a row becomes.
//!
//! A new format is a variant of `RowKind` and `Row`, a line in `REQUIRED`, an arm in `Fields::row` and one in `encode`.

use crate::DataError;
use crate::chat::Conversation;
use crate::error::Place;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::fmt;

/// The formats of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowKind {
    /// `{"text"}`.
    Text,
    /// `{"messages"}`: a role and a content each.
    Messages,
    /// `{"conversations"}`: as ShareGPT has it, "from" and "value" each.
    Conversations,
    /// `{"prompt", "completion"}`.
    PromptCompletion,
    /// `{"instruction", "input"?, "output"}`.
    Instruction,
    /// `{"input_ids", "labels"?}`.
    Tokens,
}

/// Each format with the keys it cannot do without, the more specific formats first: a row that also carries the text
/// it was tokenised from is a tokens row.
const REQUIRED: [(RowKind, &[&str]); 6] = [
    (RowKind::Tokens, &["input_ids"]),
    (RowKind::Messages, &["messages"]),
    (RowKind::Conversations, &["conversations"]),
    (RowKind::PromptCompletion, &["prompt", "completion"]),
    (RowKind::Instruction, &["instruction", "output"]),
    (RowKind::Text, &["text"]),
];

impl RowKind {
    fn required(self) -> &'static [&'static str] {
        let entry = REQUIRED.iter().find(|(kind, _)| *kind == self);
        entry.expect("every format has a line in REQUIRED").1
    }
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RowKind::Text => r#"{"text"}"#,
            RowKind::Messages => r#"{"messages"}"#,
            RowKind::Conversations => r#"{"conversations"}"#,
            RowKind::PromptCompletion => r#"{"prompt", "completion"}"#,
            RowKind::Instruction => r#"{"instruction", "output"}"#,
            RowKind::Tokens => r#"{"input_ids"}"#,
        })
    }
}

/// What a row says, before any tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A text that is trained on whole.
    Text {
        /// The text.
        text: String,
    },
    /// A prompt that is read and a completion that is trained on.
    PromptCompletion {
        /// Not trained on.
        prompt: String,
        /// Trained on, with the end-of-text token after it.
        completion: String,
    },
    /// A conversation: the assistant's turns are trained on.
    Conversation(Conversation),
    /// A task and its answer, which is trained on.
    Instruction {
        /// What to do.
        instruction: String,
        /// What to do it with; may be empty.
        input: String,
        /// The answer.
        output: String,
    },
    /// Tokens as given. The numbers are not yet held to the vocabulary.
    Tokens {
        /// Token ids.
        input_ids: Vec<i64>,
        /// One label per token, unshifted, -100 where not trained on. Absent: every token is trained on.
        labels: Option<Vec<i64>>,
    },
}

/// Reads one row. `kind` is the file's format, set by its first row.
pub(crate) fn parse_row(json: &str, kind: &mut Option<RowKind>, place: &Place) -> Result<Row, DataError> {
    let fields = Fields::parse(json, place)?;
    let kind = match *kind {
        Some(kind) => fields.expect(kind)?,
        None => *kind.insert(fields.detect()?),
    };
    fields.row(kind)
}

/// The unparsed values of one object, so that keys outside the format cost nothing but a scan.
struct Fields<'a> {
    json: &'a str,
    values: BTreeMap<String, &'a RawValue>,
    place: &'a Place,
}

impl<'a> Fields<'a> {
    fn parse(json: &'a str, place: &'a Place) -> Result<Self, DataError> {
        let values = serde_json::from_str(json).map_err(|error| match serde_json::from_str::<&RawValue>(json) {
            // A broken line is told as such, whatever it begins with.
            Err(syntax) => not_json(json, &syntax, place),
            Ok(whole) if type_name(whole) == OBJECT => not_json(json, &error, place),
            Ok(whole) => DataError::NotAnObject { place: place.clone(), found: type_name(whole) },
        })?;
        Ok(Fields { json, values, place })
    }

    fn has(&self, kind: RowKind) -> bool {
        kind.required().iter().all(|&key| self.values.contains_key(key))
    }

    fn matching(&self) -> Option<RowKind> {
        REQUIRED.iter().map(|&(kind, _)| kind).find(|&kind| self.has(kind))
    }

    /// The format of a file's first row. A row with a part of a format's keys is told which one is missing.
    fn detect(&self) -> Result<RowKind, DataError> {
        if let Some(kind) = self.matching() {
            return Ok(kind);
        }
        let begun = |keys: &[&str]| keys.iter().any(|&key| self.values.contains_key(key));
        match REQUIRED.iter().find(|(_, keys)| begun(keys)) {
            Some(&(kind, _)) => Err(self.missing(kind)),
            None => Err(DataError::UnknownKeys { place: self.place.clone(), keys: self.keys() }),
        }
    }

    /// Holds a later row to the format of the first.
    fn expect(&self, kind: RowKind) -> Result<RowKind, DataError> {
        if self.has(kind) {
            return Ok(kind);
        }
        match self.matching() {
            Some(found) => Err(DataError::OtherKind { place: self.place.clone(), found, expected: kind }),
            None => Err(self.missing(kind)),
        }
    }

    fn missing(&self, kind: RowKind) -> DataError {
        let absent = |key: &&&'static str| !self.values.contains_key(**key);
        let key = kind.required().iter().find(absent).expect("called only when a required key is missing");
        DataError::MissingKey { place: self.place.clone(), key, kind, keys: self.keys() }
    }

    /// The row's keys for a message, shortened if there are many or if they are long.
    fn keys(&self) -> String {
        if self.values.is_empty() {
            return "(none)".to_string();
        }
        let shown: Vec<String> = self.values.keys().take(8).map(|key| format!("`{}`", shorten(key, 40))).collect();
        let more = if self.values.len() > 8 { ", …" } else { "" };
        format!("{}{more}", shown.join(", "))
    }

    fn row(&self, kind: RowKind) -> Result<Row, DataError> {
        Ok(match kind {
            RowKind::Text => Row::Text { text: self.string("text")? },
            RowKind::PromptCompletion => {
                Row::PromptCompletion { prompt: self.string("prompt")?, completion: self.string("completion")? }
            }
            RowKind::Messages => Row::Conversation(self.conversation("messages")?),
            RowKind::Conversations => Row::Conversation(self.conversation("conversations")?),
            RowKind::Instruction => {
                let (instruction, output) = (self.string("instruction")?, self.string("output")?);
                let has_input = self.values.get("input").is_some_and(|raw| type_name(raw) != NULL);
                let input = if has_input { self.string("input")? } else { String::new() };
                Row::Instruction { instruction, input, output }
            }
            RowKind::Tokens => {
                let labels = self.values.get("labels").filter(|raw| type_name(raw) != NULL);
                Row::Tokens {
                    input_ids: self.integers("input_ids", self.values["input_ids"])?,
                    labels: labels.map(|raw| self.integers("labels", raw)).transpose()?,
                }
            }
        })
    }

    fn string(&self, key: &str) -> Result<String, DataError> {
        let raw = self.values[key];
        if type_name(raw) != STRING {
            return Err(self.wrong_type(key.to_string(), "a string", raw));
        }
        // A scan does not look into escapes, so a lone surrogate is found only here.
        serde_json::from_str(raw.get()).map_err(|error| {
            let before = raw.get().as_ptr().addr() - self.json.as_ptr().addr();
            not_json_at(self.json, before + error.column(), &error, self.place)
        })
    }

    fn conversation(&self, key: &'static str) -> Result<Conversation, DataError> {
        let raw = self.values[key];
        let tools = self.values.get("tools").copied().filter(|raw| type_name(raw) != NULL);
        Conversation::parse(key, raw, tools).map_err(|bad| match bad.key == key {
            true => self.wrong_type(bad.key, bad.expected, raw),
            false => DataError::BadMessage { place: self.place.clone(), key: bad.key, expected: bad.expected },
        })
    }

    fn integers(&self, key: &str, raw: &RawValue) -> Result<Vec<i64>, DataError> {
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

    fn wrong_type(&self, key: String, expected: &'static str, raw: &RawValue) -> DataError {
        let name = type_name(raw);
        // Long values say less than their type.
        let found = if name == NULL { name.to_string() } else { format!("{name} (`{}`)", shorten(raw.get(), 24)) };
        DataError::WrongType { place: self.place.clone(), key, expected, found }
    }
}

const OBJECT: &str = "an object";
const STRING: &str = "a string";
const NULL: &str = "null";

fn type_name(raw: &RawValue) -> &'static str {
    match raw.get().as_bytes().first() {
        Some(b'{') => OBJECT,
        Some(b'[') => "an array",
        Some(b'"') => STRING,
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => NULL,
        _ => "a number",
    }
}

fn shorten(text: &str, limit: usize) -> String {
    let mut short: String = text.chars().take(limit).flat_map(visible).collect();
    if text.chars().nth(limit).is_some() {
        short.push('…');
    }
    short
}

/// Control characters would hide what is wrong, or steer the terminal.
fn visible(c: char) -> impl Iterator<Item = char> {
    let escaped = c.is_control().then(|| c.escape_default());
    let plain = escaped.is_none().then_some(c);
    escaped.into_iter().flatten().chain(plain)
}

fn not_json(json: &str, error: &serde_json::Error, place: &Place) -> DataError {
    // A row of a JSON array may span lines; the parser counts both.
    let line_start = json.split_inclusive('\n').take(error.line().saturating_sub(1)).map(str::len).sum::<usize>();
    not_json_at(json, line_start + error.column(), error, place)
}

/// `offset` is how many bytes of `json` the parser had taken, the offending one included.
fn not_json_at(json: &str, offset: usize, error: &serde_json::Error, place: &Place) -> DataError {
    let mut at = offset.saturating_sub(1).min(json.len());
    while !json.is_char_boundary(at) {
        at -= 1;
    }
    let (before, after) = json.split_at(at);
    let line_before = before.rsplit('\n').next().unwrap_or("");
    let place = Place { line: place.line + before.matches('\n').count() as u64, ..place.clone() };
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
