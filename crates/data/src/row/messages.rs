//! The messages of a row, in the words of chat templates, from those of OpenAI, ShareGPT and LLaMA-Factory. Invariants: a
//! message has a role, and a text, parts of text or tool calls; every key is used, known to mean nothing, or kept for the
//! template and held to be one that it reads.
//!
//! Look next at `chat::conversation`, which hands them to a template.

use super::json_text::{Entries, STRING, is_nothing, raw, type_name};
use super::keys::is_harmless_in_messages;
use serde_json::value::RawValue;

/// Who speaks, in ShareGPT's words and in those of chat templates.
const SPEAKERS: [(&str, &str); 19] = [
    ("human", "user"),
    ("user", "user"),
    ("prompter", "user"),
    ("gpt", "assistant"),
    ("chatgpt", "assistant"),
    ("bing", "assistant"),
    ("bard", "assistant"),
    ("model", "assistant"),
    ("bot", "assistant"),
    ("ai", "assistant"),
    ("assistant", "assistant"),
    ("system", "system"),
    ("developer", "developer"),
    ("tool", "tool"),
    ("function_response", "tool"),
    ("tool_response", "tool"),
    ("observation", "tool"),
    ("function_call", CALLS),
    ("tool_call", CALLS),
];
/// A turn of the assistant that holds nothing but calls.
const CALLS: &str = "calls";
/// Names that speakers have beside the roles of templates, under `role`, too.
const NICKNAMES: [&str; 10] =
    ["human", "prompter", "gpt", "chatgpt", "bing", "bard", "model", "bot", "ai", "function_call"];
/// Roles that templates know by convention.
const ROLES: [&str; 5] = ["system", "user", "assistant", "tool", "developer"];
/// Keys that templates read by convention; a template that does not read them loses nothing that is to be learnt.
const KNOWN: [&str; 9] =
    ["role", "content", "tool_calls", "tool_call_id", "name", "reasoning_content", "thinking", "reasoning", "tools"];

/// One message of a row.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    pub(crate) role: String,
    /// All of it as a template sees it, `role` first; no nulls.
    pub(crate) entries: Vec<(String, Box<RawValue>)>,
    /// False for an assistant's turn that is not to be trained on.
    pub(crate) trained: bool,
    /// What only some templates read: a role, or keys. With the message's place in the row.
    pub(crate) unusual: Vec<Unusual>,
}

/// Something that means nothing unless the template reads it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unusual {
    /// Where it stands: `messages[2].role`.
    pub(crate) place: String,
    /// The word that the template has to mention.
    pub(crate) word: String,
}

/// What is wrong with messages: the key and what it must be.
pub(crate) struct BadMessage {
    pub(crate) key: String,
    pub(crate) expected: String,
}

/// A key within one message, and what it must be.
type Bad = (String, String);

fn bad(key: &str, expected: &str) -> Bad {
    (key.to_string(), expected.to_string())
}

impl Message {
    pub(crate) fn plain(role: &str, text: &str) -> Self {
        let entries = vec![("role".to_string(), raw(&role)), ("content".to_string(), raw(&text))];
        Message { role: role.to_string(), entries, trained: true, unusual: Vec::new() }
    }

    /// The JSON of a value.
    pub(crate) fn value(&self, key: &str) -> Option<&str> {
        self.entries.iter().find(|(name, _)| name == key).map(|(_, value)| value.get())
    }
}

/// Of `[{"role", "content", …}, …]`, or of ShareGPT's `[{"from", "value"}, …]`; or of a text that holds such a list.
pub(crate) fn read_messages(key: &str, json: &RawValue) -> Result<Vec<Message>, BadMessage> {
    let fail = |key: String, expected: &str| BadMessage { key, expected: expected.to_string() };
    let expected = "an array of messages, {\"role\", \"content\"} each";
    let values = list_or_text_of_one(json).ok_or_else(|| fail(key.to_string(), expected))?;
    if values.is_empty() {
        return Err(fail(key.to_string(), "an array of at least one message"));
    }
    let read = |index: usize| {
        let value = &values[index];
        let at = format!("{key}[{index}]");
        read_message(value, &at).map_err(|(inner, expected)| {
            let dot = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
            fail(format!("{at}{dot}{inner}"), &expected)
        })
    };
    (0..values.len()).map(read).collect()
}

/// A list; or the list that a text holds, as tables and ShareGPT's tools have it.
pub(crate) fn list_or_text_of_one(json: &RawValue) -> Option<Vec<Box<RawValue>>> {
    match type_name(json) {
        STRING => serde_json::from_str(&serde_json::from_str::<String>(json.get()).ok()?).ok(),
        _ => serde_json::from_str(json.get()).ok(),
    }
}

/// The entries of a message that nothing has taken yet.
struct Left(Vec<(String, Box<RawValue>)>);

impl Left {
    /// Takes a value; null is not there.
    fn take(&mut self, key: &str) -> Option<Box<RawValue>> {
        let index = self.0.iter().position(|(name, _)| name == key)?;
        let (_, value) = self.0.remove(index);
        Some(value).filter(|value| value.get() != "null")
    }

    /// Takes the value of one of two names.
    fn one_of(&mut self, name: &str, other: &str) -> Result<Option<(String, Box<RawValue>)>, Bad> {
        match (self.take(name), self.take(other)) {
            (Some(_), Some(_)) => Err((other.to_string(), format!("left out: `{name}` is there, too"))),
            (Some(value), None) => Ok(Some((name.to_string(), value))),
            (None, Some(value)) => Ok(Some((other.to_string(), value))),
            (None, None) => Ok(None),
        }
    }

    fn text(key: &str, value: &RawValue) -> Result<String, Bad> {
        serde_json::from_str(value.get()).map_err(|_| bad(key, "a string"))
    }
}

/// One message; or the key and what it must be.
fn read_message(value: &RawValue, at: &str) -> Result<Message, Bad> {
    let entries: Entries<Box<RawValue>> =
        serde_json::from_str(value.get()).map_err(|_| bad("", "an object {\"role\", \"content\"}"))?;
    let mut left = Left(Vec::with_capacity(entries.0.len()));
    for (key, value) in entries.0 {
        if left.0.iter().any(|(name, _)| *name == key) {
            return Err((key, "there once, not twice".to_string()));
        }
        left.0.push((key, value));
    }
    let order: Vec<String> = left.0.iter().map(|(key, _)| template_name(key).to_string()).collect();
    let (role, mut unusual) = read_role(&mut left, at)?;
    let content = left.one_of("content", "value")?;
    let mut message = Message { role: role.to_string(), entries: Vec::new(), trained: true, unusual: Vec::new() };
    if role == CALLS {
        message.role = "assistant".to_string();
        let (key, value) = content.ok_or_else(|| bad("value", "there: the call, {\"name\", \"arguments\"}"))?;
        message.entries = vec![("role".into(), raw(&"assistant")), ("content".into(), raw(&""))];
        message.entries.push(("tool_calls".into(), calls_of(&key, &Left::text(&key, &value)?)?));
    } else {
        message.entries.push(("role".into(), raw(&message.role)));
        let calls = read_calls(&mut left)?;
        match content {
            Some((key, value)) => message.entries.push(("content".into(), read_content(&key, value)?)),
            None if calls.is_some() => {}
            None => return Err(bad("content", "there: the message's text")),
        }
        message.entries.extend(calls.map(|calls| ("tool_calls".into(), calls)));
    }
    message.trained = read_trained(&mut left, &message.role)?;
    for (key, value) in left.0 {
        // A null is no key to a template, either.
        if value.get() == "null" {
            continue;
        }
        let known = KNOWN.contains(&key.as_str()) || is_harmless_in_messages(&key) || is_nothing(&value);
        if !known {
            unusual.push(Unusual { place: format!("{at}.{key}"), word: key.clone() });
        }
        message.entries.push((key, value));
    }
    // A template that spells a message whole spells it in the row's order.
    message.entries.sort_by_key(|(key, _)| order.iter().position(|name| name == key));
    message.unusual = unusual;
    Ok(message)
}

/// The name under which a template sees a key.
fn template_name(key: &str) -> &str {
    match key {
        "from" => "role",
        "value" => "content",
        "function_call" => "tool_calls",
        key => key,
    }
}

/// Who speaks, in a template's words or [`CALLS`], and the role if only some templates know it.
fn read_role(left: &mut Left, at: &str) -> Result<(String, Vec<Unusual>), Bad> {
    let Some((key, value)) = left.one_of("role", "from")? else {
        return Err(bad("role", "there: \"system\", \"user\", \"assistant\" or \"tool\""));
    };
    let name = Left::text(&key, &value)?;
    let plain = name.trim().to_lowercase();
    let speaker = SPEAKERS.iter().find(|(speaker, _)| *speaker == plain).map(|(_, role)| role.to_string());
    if key == "from" {
        return Ok((speaker.ok_or_else(|| bad("from", "\"human\", \"gpt\", \"system\" or \"tool\""))?, Vec::new()));
    }
    if NICKNAMES.contains(&plain.as_str()) {
        return Ok((speaker.expect("every nickname is a speaker"), Vec::new()));
    }
    let usual = ROLES.contains(&name.as_str());
    let unusual = (!usual).then(|| Unusual { place: format!("{at}.role"), word: name.clone() });
    Ok((name, unusual.into_iter().collect()))
}

/// A text, or parts of text.
fn read_content(key: &str, value: Box<RawValue>) -> Result<Box<RawValue>, Bad> {
    if type_name(&value) == STRING {
        Left::text(key, &value)?;
        return Ok(value);
    }
    let Ok(parts) = serde_json::from_str::<Vec<&RawValue>>(value.get()) else {
        return Err(bad(key, "a string, or a list of parts {\"type\": \"text\", \"text\"}"));
    };
    if parts.is_empty() {
        return Err(bad(key, "a string, or a list of at least one part"));
    }
    for (index, part) in parts.iter().enumerate() {
        let at = |inner: &str| format!("{key}[{index}]{inner}");
        let Ok(Entries(entries)) = serde_json::from_str::<Entries<&RawValue>>(part.get()) else {
            return Err(bad(&at(""), "an object {\"type\": \"text\", \"text\"}"));
        };
        let get = |name: &str| entries.iter().find(|(key, _)| key == name).map(|(_, value)| value.get());
        if let Some(kind) = get("type").filter(|kind| *kind != "\"text\"") {
            let expected = format!("\"text\": a part of type {kind} is no text, and the models here read text alone");
            return Err((at(".type"), expected));
        }
        if get("text").is_none_or(|text| serde_json::from_str::<String>(text).is_err()) {
            return Err(bad(&at(".text"), "a string"));
        }
    }
    Ok(value)
}

/// `tool_calls`, or OpenAI's older `function_call`.
fn read_calls(left: &mut Left) -> Result<Option<Box<RawValue>>, Bad> {
    let older = left.take("function_call").map(|call| calls_of("function_call", call.get())).transpose()?;
    match left.take("tool_calls").filter(|calls| !is_nothing(calls)) {
        Some(_) if older.is_some() => Err(bad("function_call", "left out: `tool_calls` is there, too")),
        Some(calls) => match list_or_text_of_one(&calls) {
            Some(list) if list.iter().all(|call| call.get().starts_with('{')) => Ok(Some(raw(&list))),
            _ => Err(bad("tool_calls", "a list of calls, {\"type\": \"function\", \"function\": {…}} each")),
        },
        None => Ok(older),
    }
}

/// The calls that a text spells, `{"name", "arguments"}` or a list of such, as templates take them.
fn calls_of(key: &str, text: &str) -> Result<Box<RawValue>, Bad> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Call {
        name: String,
        #[serde(alias = "parameters")]
        arguments: Option<Box<RawValue>>,
    }
    let list = if text.trim_start().starts_with('[') { text.to_string() } else { format!("[{text}]") };
    let calls: Vec<Call> = serde_json::from_str(&list)
        .map_err(|_| bad(key, "JSON of a call, {\"name\", \"arguments\"}, or of a list of calls"))?;
    let written = calls.iter().map(|call| {
        let empty = || RawValue::from_string("{}".to_string()).expect("an empty object");
        let arguments = call.arguments.clone().unwrap_or_else(empty);
        // Arguments may be spelled as a text, which a template would quote once more.
        let spelled = serde_json::from_str::<String>(arguments.get()).ok();
        let arguments = spelled.and_then(|text| RawValue::from_string(text).ok()).unwrap_or(arguments);
        let name = raw(&call.name);
        format!(r#"{{"type":"function","function":{{"name":{},"arguments":{}}}}}"#, name.get(), arguments.get())
    });
    let json = format!("[{}]", written.collect::<Vec<_>>().join(","));
    Ok(RawValue::from_string(json).expect("calls that were read are JSON"))
}

/// Whether a turn is trained on: `weight` 0 or 1, `train` and `training` false or true.
fn read_trained(left: &mut Left, role: &str) -> Result<bool, Bad> {
    let mut trained = true;
    if let Some(weight) = left.take("weight") {
        trained &= match serde_json::from_str::<f64>(weight.get()) {
            Ok(0.0) => false,
            Ok(1.0) => true,
            _ => return Err(bad("weight", "0 or 1: a turn is trained on or not, with no weights between")),
        };
    }
    for key in ["train", "training"] {
        let Some(flag) = left.take(key) else { continue };
        let flag: bool = serde_json::from_str(flag.get()).map_err(|_| bad(key, "true or false"))?;
        if flag && role != "assistant" {
            let expected =
                "false or left out: only the assistant's turns are trained on, or everything with --train-on all";
            return Err(bad(key, expected));
        }
        trained &= flag;
    }
    Ok(trained)
}
