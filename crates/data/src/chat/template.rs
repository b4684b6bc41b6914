//! A model's chat template: a conversation becomes the text that the model was trained to read.
//!
//! Invariants: the rendering is byte for byte that of transformers' `apply_chat_template`; a template reaches no file,
//! no environment variable and no clock; and one that runs or grows without end is an error, because a template comes
//! with a model from anywhere. Four limits see to that: instructions (`fuel`), recursion, what is written (into the
//! output, or into a captured block), and what is made by joining texts (`source` puts the guard into each `+` and `~`).
//!
//! Look next at `source`, which prepares the template, and at `turns`, which finds the trained part of a rendering.

use crate::chat::clock::Day;
use crate::chat::conversation::Conversation;
use crate::chat::{python_json, source};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::Kwargs;
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior, Value, context};
use minijinja_contrib::pycompat;

/// The longest template that is read; published ones are below 32 KiB.
const MAX_TEMPLATE_BYTES: usize = 1 << 20;
/// Instructions of one rendering. Published templates take about a hundred per message.
const FUEL: u64 = 5_000_000;
/// Depth of macros calling macros.
const MAX_RECURSION: usize = 100;
/// Bytes that one rendering may write and join; far more than any conversation, far less than any machine has.
const GROWTH_BYTES: usize = 256 << 20;

const NAME: &str = "chat template";

/// The special tokens that a template may ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SpecialTokens {
    /// `bos_token`: begins a text.
    pub bos: Option<String>,
    /// `eos_token`: ends a text.
    pub eos: Option<String>,
    /// `pad_token`: fills up.
    pub pad: Option<String>,
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    special: SpecialTokens,
}

impl ChatTemplate {
    /// Compiles a template. The error says what is wrong with it and in which line.
    pub fn new(source: &str, special: SpecialTokens) -> Result<Self, String> {
        if source.len() > MAX_TEMPLATE_BYTES {
            return Err(format!("it has {} bytes, more than {MAX_TEMPLATE_BYTES}", source.len()));
        }
        let mut environment = environment();
        show_day(&mut environment, Day::default());
        environment.add_template_owned(NAME, source::prepare(source)).map_err(|error| words(&error))?;
        Ok(ChatTemplate { environment, special })
    }

    /// With another day as today's, for templates that ask.
    pub fn on_day(mut self, day: Day) -> Self {
        show_day(&mut self.environment, day);
        self
    }

    /// The text of a conversation, and with `add_generation_prompt` also what comes before the assistant's next turn.
    /// The error is the template's own (`raise_exception`), or says which limit it broke.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String, String> {
        self.render_messages(conversation, conversation.values(), add_generation_prompt)
    }

    /// As [`render`](Self::render), with other messages in place of the conversation's.
    pub(crate) fn render_messages(
        &self,
        conversation: &Conversation,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<String, String> {
        let template = self.environment.get_template(NAME).map_err(|error| words(&error))?;
        let absent = || Value::UNDEFINED;
        let token = |token: &Option<String>| token.as_deref().map_or_else(absent, Value::from);
        let variables = context! {
            messages => messages,
            tools => conversation.tools(),
            documents => (),
            add_generation_prompt,
            bos_token => token(&self.special.bos),
            eos_token => token(&self.special.eos),
            pad_token => token(&self.special.pad),
        };
        template.render(variables).map_err(|error| words(&error))
    }
}

/// transformers' Jinja environment, within limits.
fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("Jinja's own delimiters"));
    environment.set_undefined_behavior(UndefinedBehavior::Lenient);
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_recursion_limit(MAX_RECURSION);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(method);
    environment.set_formatter(write_value);
    environment.add_function("raise_exception", raise_exception);
    environment.add_filter("tojson", tojson);
    environment.add_filter("replace", replace);
    environment.add_filter("join", join);
    environment.add_filter(source::JOIN_GUARD, join_guard);
    // No published template needs these, and they make much out of little.
    ["indent", "pprint", "format", "zip", "chain"].into_iter().for_each(|name| environment.remove_filter(name));
    environment.remove_global("debug");
    environment
}

/// The day that the template sees as today's.
fn show_day(environment: &mut Environment<'_>, day: Day) {
    environment.add_function("strftime_now", move |format: String| day.strftime(&format));
}

fn raise_exception(message: String) -> Result<Value, Error> {
    Err(refusal(message))
}

/// Bytes that this rendering has written and joined so far.
#[derive(Default)]
struct Growth(usize);

/// Counts `bytes` that are about to be written or joined; an error once there are too many.
fn grow(state: &mut State, bytes: usize) -> Result<(), Error> {
    let growth = state.get_or_insert_extension(Growth::default());
    growth.0 = growth.0.saturating_add(bytes);
    if growth.0 > GROWTH_BYTES {
        return Err(refusal(format!("it makes more than {GROWTH_BYTES} bytes out of one conversation")));
    }
    Ok(())
}

fn refusal(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}

fn write_value(output: &mut Output, state: &mut State, value: &Value) -> Result<(), Error> {
    // Only texts are counted: a list's texts were counted when they were made.
    grow(state, value.as_str().map_or(0, str::len))?;
    minijinja::escape_formatter(output, state, value)
}

/// Stands on the left of each `+` and `~`: whoever doubles a text passes here.
fn join_guard(state: &mut State, value: Value) -> Result<Value, Error> {
    grow(state, value.as_str().map_or(0, str::len))?;
    Ok(value)
}

/// Refuses a format with a number of more than three digits: a field is as long as it says.
fn check_format(format: &str) -> Result<(), Error> {
    match format.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 3) {
        true => Err(refusal("a format has a number of more than three digits")),
        false => Ok(()),
    }
}

/// Python's methods of texts, lists and dictionaries.
fn method(state: &mut State, value: &Value, name: &str, arguments: &[Value]) -> Result<Value, Error> {
    match (value.as_str(), name, arguments) {
        (Some(text), "replace", [from, to, ..]) => count_replacement(state, text, from, to)?,
        (Some(joiner), "join", [items]) => return join(state, items.clone(), Some(joiner.to_string())),
        (Some(format), "format", _) => check_format(format)?,
        (Some(text), "title", []) => return Ok(Value::from(title(text))),
        _ => {}
    }
    pycompat::unknown_method_callback(state, value, name, arguments)
}

/// Python's `str.title`: a letter behind a letter is small, any other is a capital.
fn title(text: &str) -> String {
    let mut titled = String::with_capacity(text.len());
    let mut in_word = false;
    for c in text.chars() {
        match in_word {
            true => titled.extend(c.to_lowercase()),
            false => titled.extend(c.to_uppercase()),
        }
        in_word = c.is_alphabetic();
    }
    titled
}

fn count_replacement(state: &mut State, text: &str, from: &Value, to: &Value) -> Result<(), Error> {
    let (from, to) = (from.as_str().unwrap_or(""), to.as_str().unwrap_or(""));
    let places = if from.is_empty() { text.len() + 1 } else { text.matches(from).count() };
    grow(state, text.len().saturating_add(places.saturating_mul(to.len())))
}

fn replace(state: &mut State, text: String, from: Value, to: Value) -> Result<Value, Error> {
    count_replacement(state, &text, &from, &to)?;
    let (from, to) = (from.to_string(), to.to_string());
    Ok(Value::from(text.replace(&from, &to)))
}

fn join(state: &mut State, items: Value, joiner: Option<String>) -> Result<Value, Error> {
    let joiner = joiner.unwrap_or_default();
    let mut joined = String::new();
    for (index, item) in items.try_iter()?.enumerate() {
        let item = item.to_string();
        let between = if index > 0 { joiner.as_str() } else { "" };
        grow(state, between.len() + item.len())?;
        joined.push_str(between);
        joined.push_str(&item);
    }
    Ok(Value::from(joined))
}

/// transformers' `tojson`: Python's, with characters beyond ASCII as they are.
fn tojson(state: &mut State, value: &Value, arguments: Kwargs) -> Result<Value, Error> {
    let indent: Option<usize> = arguments.get("indent")?;
    let sort_keys: Option<bool> = arguments.get("sort_keys")?;
    let ensure_ascii: Option<bool> = arguments.get("ensure_ascii")?;
    let separators: Option<Vec<String>> = arguments.get("separators")?;
    arguments.assert_all_used()?;
    if indent.is_some_and(|indent| indent > 16) {
        return Err(refusal("tojson indents by more than 16"));
    }
    let mut style = python_json::Style::new(indent);
    style.sort_keys = sort_keys.unwrap_or(false);
    style.ascii = ensure_ascii.unwrap_or(false);
    if let Some([item, key]) = separators.as_deref() {
        (style.item_separator, style.key_separator) = (item.clone(), key.clone());
    }
    let json = python_json::dump(value, &style).map_err(refusal)?;
    grow(state, json.len())?;
    Ok(Value::from(json))
}

/// The error in one line, with the template's line.
fn words(error: &Error) -> String {
    let what = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => format!("it runs without end (stopped after {FUEL} instructions)"),
        (ErrorKind::InvalidOperation, Some(detail)) => detail.to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    match error.line() {
        Some(line) => format!("{what} (line {line} of the template)"),
        None => what,
    }
}
