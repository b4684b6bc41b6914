//! One row: an object of a known format. Invariants: the first row of a file decides its format, and every later row must
//! have it; every key of a row is used, is known to mean nothing for training, or is refused by name.
//!
//! ```text
//! one JSON object ──columns renamed──▶ Fields ──format──▶ Row, its keys taken one by one ──what is left──▶ keys
//! ```
//!
//! A new format is a variant of `RowKind` (`kind`) and `Row`, a line in `keys::FORMATS`, an arm in `Fields::row` and one in
//! `encode`. Look next at `encode` for what a row becomes, at `parser` for a file's rows.

mod column;
mod file_rows;
pub(crate) mod json_text;
pub(crate) mod keys;
pub(crate) mod kind;
mod long_text;
pub(crate) mod messages;
pub(crate) mod options;
pub(crate) mod parser;
mod tokens_row;

pub use column::Column;
pub use file_rows::{BadRow, FileRows};
pub use kind::RowKind;
pub use options::{BadRows, DEFAULT_BAD_SHARE, RowOptions, file_of};

use crate::DataError;
use crate::chat::Conversation;
use crate::error::RowPlace;
use json_text::{
    ARRAY, Entries, NULL, OBJECT, STRING, described, is_nothing, listed, not_json, not_json_at, type_name,
};
use keys::{FORMATS, Format};
use messages::{BadMessage, Message, read_messages};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ops::Range;

/// What a row says, before any tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// A text that is trained on whole.
    Text {
        /// The text.
        text: String,
    },
    /// The text of a whole file, which fills as many sequences as it needs.
    Document {
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
    /// A task and its answer, which is trained on: the conversation to be rendered where there is a chat template.
    Instruction {
        /// What to do.
        instruction: String,
        /// What to do it with; may be empty.
        input: String,
        /// The answer.
        output: String,
        /// The same as a conversation, with the row's system prompt, earlier turns and tools.
        conversation: Conversation,
        /// A key that only a conversation has a place for.
        needs_conversation: Option<&'static str>,
    },
    /// Tokens as given. The numbers are not yet held to the vocabulary.
    Tokens {
        /// Token ids.
        input_ids: Vec<i64>,
        /// One label per token, unshifted, -100 where not trained on. Absent: every token is trained on.
        labels: Option<Vec<i64>>,
    },
}

/// The values of one object that no format has taken yet.
struct Fields<'a> {
    json: &'a str,
    values: BTreeMap<String, &'a RawValue>,
    place: &'a RowPlace,
}

impl<'a> Fields<'a> {
    /// Keys in lower case, and under the names that the columns were given.
    fn parse(json: &'a str, options: &RowOptions, place: &'a RowPlace) -> Result<Self, DataError> {
        let entries: Entries<&RawValue> =
            serde_json::from_str(json).map_err(|error| match serde_json::from_str::<&RawValue>(json) {
                // A broken line is told as such, whatever it begins with.
                Err(syntax) => not_json(json, &syntax, place),
                Ok(whole) if type_name(whole) == OBJECT => not_json(json, &error, place),
                Ok(whole) => DataError::NotAnObject { place: place.clone(), found: type_name(whole) },
            })?;
        let mut values = BTreeMap::new();
        for (written, value) in entries.0 {
            let name = options.renamed(&written);
            if values.insert(name.clone(), value).is_some() {
                return Err(DataError::DuplicateKey { place: place.clone(), key: name });
            }
        }
        Ok(Fields { json, values, place })
    }

    fn has(&self, format: &Format) -> bool {
        format.required.iter().all(|&key| self.values.contains_key(key))
    }

    /// The first format all of whose keys are there, those with values before those with nulls.
    fn matching(&self) -> Option<&'static Format> {
        let holds = |key: &&str| self.values.get(*key).is_some_and(|value| type_name(value) != NULL);
        let filled = FORMATS.iter().find(|format| format.required.iter().all(holds));
        filled.or_else(|| FORMATS.iter().find(|format| self.has(format)))
    }

    /// The format of a file's first row. A row with a part of a format's keys is told which one is missing.
    fn detect(&self) -> Result<&'static Format, DataError> {
        if let Some(format) = self.matching() {
            return Ok(format);
        }
        // The plainest format of those begun: the many names of a task and its answer come last.
        let begun = |format: &&Format| format.required.iter().any(|&key| self.values.contains_key(key));
        match FORMATS.iter().find(begun) {
            Some(format) => Err(self.missing(format)),
            None => Err(DataError::UnknownKeys { place: self.place.clone(), keys: self.keys() }),
        }
    }

    /// Holds a later row to the format of the first.
    fn expect(&self, format: &'static Format) -> Result<(), DataError> {
        if self.has(format) {
            return Ok(());
        }
        match self.matching() {
            Some(found) if found.kind == format.kind => Err(self.missing(format)),
            Some(found) => {
                let (found, expected) = (found.kind, format.kind);
                Err(DataError::OtherKind { place: self.place.clone(), found, expected })
            }
            None => Err(self.missing(format)),
        }
    }

    /// A pair of answers to choose from is told as such, not by the key that a format misses.
    fn check_preference(&self, options: &RowOptions) -> Result<(), DataError> {
        let found = self.values.iter().find(|(key, value)| keys::is_preference(key) && !is_nothing(value));
        match found.filter(|(key, _)| !options.ignores(key)) {
            Some((key, _)) => Err(self.refused(key)),
            None => Ok(()),
        }
    }

    fn refused(&self, key: &str) -> DataError {
        let why = keys::refusal(key).expect("called for keys that are refused");
        DataError::RefusedKey { place: self.place.clone(), key: key.to_string(), why }
    }

    fn missing(&self, format: &Format) -> DataError {
        let absent = |key: &&&'static str| !self.values.contains_key(**key);
        let key = format.required.iter().find(absent).expect("called only when a required key is missing");
        DataError::MissingKey { place: self.place.clone(), key, kind: format.kind, keys: self.keys() }
    }

    /// The row's keys for a message.
    fn keys(&self) -> String {
        listed(self.values.keys().map(String::as_str))
    }

    /// Takes the row out of the fields.
    fn row(&mut self, format: &Format) -> Result<Row, DataError> {
        Ok(match format.kind {
            RowKind::Text => Row::Text { text: self.string(format.required[0])? },
            RowKind::PromptCompletion => self.prompt_completion()?,
            RowKind::Messages | RowKind::Conversations => {
                let messages = self.messages(format.required[0])?;
                self.check_copied_prompt(&messages);
                let system = self.system()?;
                let messages = self.behind_system(system, messages)?;
                Row::Conversation(self.conversation(messages)?)
            }
            RowKind::Instruction => self.instruction(format)?,
            RowKind::Tokens => self.tokens()?,
            RowKind::Document => unreachable!("no format of objects is a text file"),
        })
    }

    /// Where the text of a row of text stands between its quotes, if it is long; taken then.
    fn long_text(&mut self, format: &Format) -> Result<Option<Range<usize>>, DataError> {
        let key = format.required[0];
        let is_long = |raw: &&RawValue| raw.get().len() >= long_text::LONG_BYTES && type_name(raw) == STRING;
        let Some(&raw) = self.values.get(key).filter(|_| format.kind == RowKind::Text).filter(|raw| is_long(raw))
        else {
            return Ok(None);
        };
        let start = raw.get().as_ptr().addr() - self.json.as_ptr().addr() + 1;
        let within = start..start + raw.get().len() - 2;
        long_text::check(&self.json[within.clone()]).map_err(|(piece, error)| {
            // The error counts from a quote before the piece.
            not_json_at(self.json, start - 1 + piece + error.column(), &error, self.place)
        })?;
        self.values.remove(key);
        Ok(Some(within))
    }

    /// The value of a key, taken; a null is not there.
    fn take(&mut self, key: &str) -> Option<&'a RawValue> {
        self.values.remove(key).filter(|raw| type_name(raw) != NULL)
    }

    /// The value of a key, taken; neither a null nor an empty text, list or object is there.
    fn take_something(&mut self, key: &str) -> Option<&'a RawValue> {
        self.take(key).filter(|raw| !is_nothing(raw))
    }

    /// A text that the format needs.
    fn string(&mut self, key: &str) -> Result<String, DataError> {
        let raw = self.values.remove(key).expect("the format was found by its keys");
        self.text_of(key, raw)
    }

    fn text_of(&self, key: &str, raw: &RawValue) -> Result<String, DataError> {
        if type_name(raw) != STRING {
            return Err(self.wrong_type(key.to_string(), "a string", raw));
        }
        // A scan does not look into escapes, so a lone surrogate is found only here.
        serde_json::from_str(raw.get()).map_err(|error| {
            let before = raw.get().as_ptr().addr() - self.json.as_ptr().addr();
            not_json_at(self.json, before + error.column(), &error, self.place)
        })
    }

    /// A text that may be missing.
    fn optional_string(&mut self, key: &str) -> Result<Option<String>, DataError> {
        self.take_something(key).map(|raw| self.text_of(key, raw)).transpose()
    }

    /// Text as it stands; or, as TRL has it, messages of both sides.
    fn prompt_completion(&mut self) -> Result<Row, DataError> {
        if type_name(self.values["prompt"]) != ARRAY {
            return Ok(Row::PromptCompletion {
                prompt: self.string("prompt")?,
                completion: self.string("completion")?,
            });
        }
        let mut messages = self.messages("prompt")?;
        messages.iter_mut().for_each(|message| message.trained = false);
        messages.extend(self.messages("completion")?);
        Ok(Row::Conversation(self.conversation(messages)?))
    }

    fn instruction(&mut self, format: &Format) -> Result<Row, DataError> {
        let (task, answer) = (format.required[0], format.required[1]);
        let (instruction, output) = (self.string(task)?, self.string(answer)?);
        let (input, context) = (self.optional_string("input")?, self.optional_string("context")?);
        let input = match (input, context) {
            (Some(_), Some(_)) => return Err(self.twice("input", "context")),
            (input, context) => input.or(context).unwrap_or_default(),
        };
        let needs_conversation = ["system", "system_prompt", "history", "tools", "chat_template_kwargs"]
            .into_iter()
            .find(|key| self.values.get(*key).is_some_and(|value| !is_nothing(value)));
        let between = if instruction.is_empty() || input.is_empty() { "" } else { "\n\n" };
        let mut messages = self.history()?;
        messages.push(Message::plain("user", &format!("{instruction}{between}{input}")));
        messages.push(Message::plain("assistant", &output));
        let system = self.system()?;
        let messages = self.behind_system(system, messages)?;
        let conversation = self.conversation(messages)?;
        Ok(Row::Instruction { instruction, input, output, conversation, needs_conversation })
    }

    /// Earlier turns: `[[question, answer], …]`, as LLaMA-Factory has them.
    fn history(&mut self) -> Result<Vec<Message>, DataError> {
        let Some(raw) = self.take_something("history") else { return Ok(Vec::new()) };
        let pairs: Vec<[String; 2]> = serde_json::from_str(raw.get()).map_err(|_| {
            self.wrong_type("history".to_string(), "an array of [question, answer] pairs of strings", raw)
        })?;
        let turns = pairs
            .iter()
            .flat_map(|[question, answer]| [Message::plain("user", question), Message::plain("assistant", answer)]);
        Ok(turns.collect())
    }

    fn system(&mut self) -> Result<Option<String>, DataError> {
        match (self.optional_string("system")?, self.optional_string("system_prompt")?) {
            (Some(_), Some(_)) => Err(self.twice("system", "system_prompt")),
            (system, prompt) => Ok(system.or(prompt)),
        }
    }

    /// The messages with the row's system prompt in front, where they have not the same one themselves.
    fn behind_system(&self, system: Option<String>, messages: Vec<Message>) -> Result<Vec<Message>, DataError> {
        let Some(system) = system else { return Ok(messages) };
        let first = Message::plain("system", &system);
        match messages.first() {
            Some(own) if own.role == "system" && own.value("content") == first.value("content") => Ok(messages),
            Some(own) if own.role == "system" => Err(DataError::BadMessage {
                place: self.place.clone(),
                key: "system".to_string(),
                expected:
                    "the system message that the conversation begins with, which is another; leave one of them out"
                        .to_string(),
            }),
            _ => Ok([vec![first], messages].concat()),
        }
    }

    /// A row's `prompt` beside its messages means nothing more if it is a copy of one of them.
    fn check_copied_prompt(&mut self, messages: &[Message]) {
        let Some(prompt) = self.values.get("prompt") else { return };
        let text = |json: &str| serde_json::from_str::<String>(json).ok();
        let copy = text(prompt.get());
        if copy.is_some() && messages.iter().any(|message| message.value("content").and_then(text) == copy) {
            self.values.remove("prompt");
        }
    }

    fn twice(&self, one: &str, other: &str) -> DataError {
        let expected = format!("given once, but `{other}` is there, too; leave one of them out");
        DataError::BadMessage { place: self.place.clone(), key: one.to_string(), expected }
    }

    /// The messages under a key.
    fn messages(&mut self, key: &'static str) -> Result<Vec<Message>, DataError> {
        let raw = self.values.remove(key).expect("the format was found by its keys");
        read_messages(key, raw).map_err(|bad| self.bad_message(bad, key, raw))
    }

    fn bad_message(&self, bad: BadMessage, key: &str, raw: &RawValue) -> DataError {
        match bad.key == key {
            true => {
                let (place, found) = (self.place.clone(), described(raw));
                DataError::WrongType { place, key: bad.key, expected: bad.expected, found }
            }
            false => DataError::BadMessage { place: self.place.clone(), key: bad.key, expected: bad.expected },
        }
    }

    /// A conversation of these messages, with the row's tools and settings of the template.
    fn conversation(&mut self, messages: Vec<Message>) -> Result<Conversation, DataError> {
        let tools = match self.take_something("tools") {
            Some(raw) => Some(messages::list_or_text_of_one(raw).ok_or_else(|| {
                let expected = "an array of tools".to_string();
                DataError::BadMessage { place: self.place.clone(), key: "tools".to_string(), expected }
            })?),
            None => None,
        };
        let kwargs = match self.take_something("chat_template_kwargs") {
            Some(raw) if type_name(raw) != OBJECT => {
                return Err(self.wrong_type("chat_template_kwargs".to_string(), "an object", raw));
            }
            kwargs => kwargs,
        };
        Conversation::of(&messages, tools.unwrap_or_default(), kwargs).map_err(|(key, problem)| {
            let expected = format!("JSON that can be read: {problem}");
            DataError::BadMessage { place: self.place.clone(), key, expected }
        })
    }

    fn wrong_type(&self, key: String, expected: &str, raw: &RawValue) -> DataError {
        let (place, found, expected) = (self.place.clone(), described(raw), expected.to_string());
        DataError::WrongType { place, key, expected, found }
    }
}
