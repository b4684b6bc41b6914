//! The messages of one row as a chat template takes them. Invariants: every message has a role; a key whose value is null
//! is not there, and reasoning goes by each name that templates know it by, both as transformers hands messages to a
//! template. Look next at `row::messages`, where messages come from.

use crate::row::messages::{Message, Unusual};
use remat_jinja::{Dict, Value};
use serde_json::value::RawValue;

/// Names under which a message may carry the assistant's reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// A conversation as a chat template takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    messages: Vec<Value>,
    roles: Vec<String>,
    trained: Vec<bool>,
    tools: Value,
    kwargs: Vec<(String, Value)>,
    unusual: Vec<Unusual>,
}

impl Conversation {
    /// A conversation of plain messages, each a role (`system`, `user`, `assistant`) and its text.
    pub fn new(messages: &[(&str, &str)]) -> Self {
        let entry = |key: &str, text: &str| (key.to_string(), Value::from(text));
        let plain = |(index, (role, content)): (usize, &(&str, &str))| {
            message(index, vec![entry("role", role), entry("content", content)]).expect("texts do not nest")
        };
        Conversation {
            messages: messages.iter().enumerate().map(plain).collect(),
            roles: messages.iter().map(|(role, _)| role.to_string()).collect(),
            trained: vec![true; messages.len()],
            tools: Value::None,
            kwargs: Vec::new(),
            unusual: Vec::new(),
        }
    }

    /// Of a row's messages, tools and `chat_template_kwargs`. The error has the key and what is wrong with its JSON.
    pub(crate) fn of(
        messages: &[Message],
        tools: Vec<Box<RawValue>>,
        kwargs: Option<&RawValue>,
    ) -> Result<Self, (String, String)> {
        let value = |key: &str, json: &RawValue| {
            serde_json::from_str::<Value>(json.get()).map_err(|error| (key.to_string(), error.to_string()))
        };
        let mut values = Vec::with_capacity(messages.len());
        for (index, of_row) in messages.iter().enumerate() {
            let at = |key: &str| format!("message {}, {key}", index + 1);
            let entry = |(key, json): &(String, Box<RawValue>)| value(&at(key), json).map(|value| (key.clone(), value));
            let entries: Entries = of_row.entries.iter().map(entry).collect::<Result<_, _>>()?;
            values.push(message(index, normalised(entries)).map_err(|error| (at("content"), error.to_string()))?);
        }
        let tools: Vec<Value> = tools.iter().map(|tool| value("tools", tool)).collect::<Result<_, _>>()?;
        let kwargs = kwargs.map(|kwargs| value("chat_template_kwargs", kwargs)).transpose()?;
        // An empty list is no tools, as in transformers' own data preparation.
        let tools = if tools.is_empty() { Ok(Value::None) } else { Value::list(tools) };
        Ok(Conversation {
            messages: values,
            roles: messages.iter().map(|message| message.role.clone()).collect(),
            trained: messages.iter().map(|message| message.trained).collect(),
            tools: tools.map_err(|error| ("tools".to_string(), error.to_string()))?,
            kwargs: kwargs.as_ref().map(entries).unwrap_or_default(),
            unusual: messages.iter().flat_map(|message| message.unusual.clone()).collect(),
        })
    }

    /// Who speaks, message by message.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    /// Whether an assistant's turn is to be trained on; a row may say that one is not.
    pub fn is_trained(&self, index: usize) -> bool {
        self.trained[index]
    }

    /// Roles and keys that mean nothing unless the template reads them.
    pub(crate) fn unusual(&self) -> &[Unusual] {
        &self.unusual
    }

    /// Whether a message has this key, with something in it.
    pub(crate) fn has(&self, key: &str) -> bool {
        self.messages.iter().any(|message| message.get(key).is_some_and(Value::is_true))
    }

    pub(crate) fn values(&self) -> &[Value] {
        &self.messages
    }

    pub(crate) fn has_tools(&self) -> bool {
        !matches!(self.tools, Value::None)
    }

    pub(crate) fn tools(&self) -> &Value {
        &self.tools
    }

    /// The text of a message that is nothing but a text.
    pub(crate) fn plain_text(&self, index: usize) -> Option<String> {
        let message = &self.messages[index];
        let has = |key: &str| message.get(key).is_some_and(Value::is_true);
        if has("tool_calls") || has("reasoning_content") {
            return None;
        }
        message.get("content")?.as_str().map(str::to_string)
    }

    /// Who says what, of the messages that are nothing but a text.
    pub fn plain_contents(&self) -> Vec<(&str, String)> {
        let plain = |index: usize| Some((self.roles[index].as_str(), self.plain_text(index)?));
        (0..self.roles.len()).filter_map(plain).collect()
    }

    /// Whether a message calls tools.
    pub(crate) fn calls_tools(&self, index: usize) -> bool {
        self.messages[index].get("tool_calls").is_some_and(Value::is_true)
    }

    /// The messages with another text in one of them.
    pub(crate) fn with_text(&self, index: usize, text: &str) -> Vec<Value> {
        let mut messages = self.messages.clone();
        messages[index] = with_content(index, &messages[index], text);
        messages
    }

    /// The same with contents that are lists of text parts put together as one text each; `None` if there are none.
    pub(crate) fn with_parts_joined(&self) -> Option<Conversation> {
        let mut joined = self.clone();
        let mut found = false;
        for (index, message) in joined.messages.iter_mut().enumerate() {
            let Some(parts) = message.get("content").and_then(Value::items) else { continue };
            found = true;
            let text: String = parts.iter().filter_map(|part| part.get("text")?.as_str()).collect();
            *message = with_content(index, message, &text);
        }
        found.then_some(joined)
    }

    /// With one tool of the common form, to ask a template for tools with.
    pub(crate) fn with_tool_of_probe(self) -> Conversation {
        const TOOL: &str = r#"[{"type": "function", "function": {"name": "look", "description": "Looks.",
            "parameters": {"type": "object", "properties": {"at": {"type": "string", "description": "What at."}},
            "required": ["at"]}}}]"#;
        Conversation { tools: serde_json::from_str(TOOL).expect("is JSON and does not nest deep"), ..self }
    }

    /// Variables that the row sets for the template, such as `enable_thinking`.
    pub(crate) fn kwargs(&self) -> &[(String, Value)] {
        &self.kwargs
    }

    /// With variables for the template.
    pub fn with_kwargs(self, kwargs: Vec<(String, Value)>) -> Self {
        Conversation { kwargs, ..self }
    }
}

/// A message as templates get it: it knows its place, and its words know that they are its own, so that a rendering says
/// where they went. Who speaks is not part of what is said.
fn message(index: usize, entries: Entries) -> Result<Value, remat_jinja::Error> {
    let number = u32::try_from(index).unwrap_or(u32::MAX);
    let mut dict = Dict::default();
    for (key, value) in entries {
        let said = if key == "role" { value } else { value.said_by(number)? };
        dict.insert(Value::from(key), said)?;
    }
    Ok(dict.as_message(number))
}

/// The keys of a message with their values, in order.
type Entries = Vec<(String, Value)>;

/// A message with another text as its content.
fn with_content(index: usize, of: &Value, text: &str) -> Value {
    let kept = entries(of).into_iter().map(|(key, value)| match key.as_str() {
        "content" => (key, Value::from(text)),
        _ => (key, value),
    });
    message(index, kept.collect()).expect("no deeper than it was")
}

/// With the reasoning under the names that templates use.
fn normalised(mut kept: Entries) -> Entries {
    let named = |name: &str| kept.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if let Some(reasoning) = REASONING.iter().find_map(|name| named(name)) {
        let has_thinking = named("thinking").is_some();
        kept.retain(|(key, _)| key != "reasoning_content");
        if !has_thinking {
            kept.insert(0, ("thinking".to_string(), reasoning.clone()));
        }
        kept.push(("reasoning_content".to_string(), reasoning));
    }
    kept
}

fn entries(message: &Value) -> Entries {
    let all = message.as_dict().into_iter().flat_map(Dict::entries);
    all.map(|(key, value)| (key.as_str().unwrap_or_default().to_string(), value.clone())).collect()
}
