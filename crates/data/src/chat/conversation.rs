//! The messages of one row. Invariants: every message has a role; a key whose value is null is not there, and reasoning
//! goes by each name that templates know it by, both as transformers hands messages to a template.

use minijinja::Value;
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
}

/// What is wrong with a conversation: the key and what it must be.
pub(crate) struct BadMessage {
    pub(crate) key: String,
    pub(crate) expected: &'static str,
}

impl Conversation {
    /// A conversation of plain messages, each a role (`system`, `user`, `assistant`) and its text.
    pub fn new(messages: &[(&str, &str)]) -> Self {
        let message = |&(role, content): &(&str, &str)| plain_message(role, Value::from(content));
        Conversation {
            messages: messages.iter().map(message).collect(),
            roles: messages.iter().map(|(role, _)| role.to_string()).collect(),
            tools: Value::from(()),
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
        let mut conversation = Conversation { messages: Vec::new(), roles: Vec::new(), tools: Value::from(()) };
        for (index, value) in values.iter().enumerate() {
            let (message, role) = read_message(value).map_err(|(inner, expected)| {
                let dot = if inner.is_empty() { "" } else { "." };
                bad(format!("{key}[{index}]{dot}{inner}"), expected)
            })?;
            conversation.messages.push(message);
            conversation.roles.push(role);
        }
        if let Some(tools) = tools {
            let tools: Vec<Value> =
                serde_json::from_str(tools.get()).map_err(|_| bad("tools".to_string(), "an array of tools"))?;
            // An empty list is no tools, as in transformers' own data preparation.
            conversation.tools = if tools.is_empty() { Value::from(()) } else { Value::from(tools) };
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
        let has = |key: &str| message.get_attr(key).is_ok_and(|value| value.is_true());
        let content = message.get_attr("content").ok()?;
        if has("tool_calls") || has("reasoning_content") {
            return None;
        }
        content.as_str().map(str::to_string)
    }

    /// The messages with another text in one of them.
    pub(crate) fn with_text(&self, index: usize, text: &str) -> Vec<Value> {
        let mut messages = self.messages.clone();
        let kept = entries(&messages[index]).into_iter().map(|(key, value)| match key.as_str() {
            "content" => (key, Value::from(text)),
            _ => (key, value),
        });
        messages[index] = Value::from_pairs(kept);
        messages
    }
}

fn plain_message(role: &str, content: Value) -> Value {
    Value::from_pairs([("role", Value::from(role)), ("content", content)])
}

/// One message and its role; or the key and what it must be.
fn read_message(value: &Value) -> Result<(Value, String), (&'static str, &'static str)> {
    if value.kind() != minijinja::value::ValueKind::Map {
        return Err(("", "an object {\"role\", \"content\"}"));
    }
    let get = |key: &str| value.get_attr(key).ok().filter(|value| !value.is_undefined() && !value.is_none());
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
    Ok((plain_message(role, content), role.to_string()))
}

/// Without nulls, and with the reasoning under the names that templates use.
fn normalised(message: &Value) -> Value {
    let mut kept = entries(message);
    kept.retain(|(_, value)| !value.is_none());
    let named = |name: &str| kept.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    if let Some(reasoning) = REASONING.iter().find_map(|name| named(name)) {
        let has_thinking = named("thinking").is_some();
        kept.retain(|(key, _)| key != "reasoning_content");
        if !has_thinking {
            kept.insert(0, ("thinking".to_string(), reasoning.clone()));
        }
        kept.push(("reasoning_content".to_string(), reasoning));
    }
    Value::from_pairs(kept)
}

fn entries(message: &Value) -> Vec<(String, Value)> {
    let keys = message.try_iter().into_iter().flatten();
    keys.map(|key| (key.to_string(), message.get_item(&key).unwrap_or_default())).collect()
}
