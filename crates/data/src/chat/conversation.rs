//! The messages of one row. Invariants: every message has a role; a key whose value is null is not there, and reasoning
//! goes by each name that templates know it by, both as transformers hands messages to a template.

use remat_jinja::{Dict, Value};
use serde_json::value::RawValue;

/// Names under which a message may carry the assistant's reasoning.
const REASONING: [&str; 3] = ["reasoning_content", "thinking", "reasoning"];

/// Who speaks, in ShareGPT's words and in those of chat templates.
const SPEAKERS: [(&str, &str); 12] = [
    ("human", "user"),
    ("user", "user"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("model", "assistant"),
    ("assistant", "assistant"),
    ("system", "system"),
    ("tool", "tool"),
    ("function_response", "tool"),
    ("observation", "tool"),
];

/// A conversation as a chat template takes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Conversation {
    messages: Vec<Value>,
    roles: Vec<String>,
    tools: Value,
    kwargs: Vec<(String, Value)>,
}

/// What is wrong with a conversation: the key and what it must be.
pub(crate) struct BadMessage {
    pub(crate) key: String,
    pub(crate) expected: &'static str,
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
            tools: Value::None,
            kwargs: Vec::new(),
        }
    }

    /// Of `[{"role", "content", …}, …]`, or of ShareGPT's `[{"from", "value"}, …]`.
    pub(crate) fn parse(key: &str, messages: &RawValue, tools: Option<&RawValue>) -> Result<Self, BadMessage> {
        let bad = |key: String, expected| BadMessage { key, expected };
        let expected = "an array of messages, {\"role\", \"content\"} each";
        let values: Vec<Value> = serde_json::from_str(messages.get()).map_err(|_| bad(key.to_string(), expected))?;
        if values.is_empty() {
            return Err(bad(key.to_string(), "an array of at least one message"));
        }
        let mut conversation = Conversation::new(&[]);
        for (index, value) in values.iter().enumerate() {
            let (entries, role) = read_message(value).map_err(|(inner, expected)| {
                let dot = if inner.is_empty() { "" } else { "." };
                bad(format!("{key}[{index}]{dot}{inner}"), expected)
            })?;
            let nested = |_| bad(format!("{key}[{index}]"), "nested less deep");
            conversation.messages.push(message(index, entries).map_err(nested)?);
            conversation.roles.push(role);
        }
        if let Some(tools) = tools {
            let wrong = || bad("tools".to_string(), "an array of tools");
            let tools: Value = serde_json::from_str(tools.get()).map_err(|_| wrong())?;
            let none = tools.items().ok_or_else(wrong)?.is_empty();
            // An empty list is no tools, as in transformers' own data preparation.
            conversation.tools = if none { Value::None } else { tools };
        }
        Ok(conversation)
    }

    /// Who speaks, message by message.
    pub fn roles(&self) -> &[String] {
        &self.roles
    }

    pub(crate) fn values(&self) -> &[Value] {
        &self.messages
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
        let kept = entries(&messages[index]).into_iter().map(|(key, value)| match key.as_str() {
            "content" => (key, Value::from(text)),
            _ => (key, value),
        });
        messages[index] = message(index, kept.collect()).expect("no deeper than it was");
        messages
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

/// One message's entries and its role; or the key and what it must be.
fn read_message(value: &Value) -> Result<(Entries, String), (&'static str, &'static str)> {
    if value.as_dict().is_none() {
        return Err(("", "an object {\"role\", \"content\"}"));
    }
    let get = |key: &str| value.get(key).filter(|value| !matches!(value, Value::None));
    if let Some(role) = get("role") {
        let role = role.as_str().ok_or(("role", "a string"))?.to_string();
        return Ok((normalised(value), role));
    }
    let Some(from) = get("from") else {
        return Err(("role", "there: \"system\", \"user\", \"assistant\" or \"tool\""));
    };
    let speaker = SPEAKERS.iter().find(|(name, _)| from.as_str() == Some(name));
    let Some((_, role)) = speaker else {
        return Err(("from", "\"human\", \"gpt\", \"system\" or \"tool\""));
    };
    let content = get("value").ok_or(("value", "there: the message's text"))?;
    content.as_str().ok_or(("value", "a string"))?;
    let entries = vec![("role".to_string(), Value::from(*role)), ("content".to_string(), content.clone())];
    Ok((entries, role.to_string()))
}

/// Without nulls, and with the reasoning under the names that templates use.
fn normalised(message: &Value) -> Entries {
    let mut kept = entries(message);
    kept.retain(|(_, value)| !matches!(value, Value::None));
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
