//! A model's chat template: a conversation becomes the text that the model was trained to read.
//!
//! Invariants: the rendering is byte for byte that of transformers' `apply_chat_template`; a template reaches no file,
//! no environment variable and no clock; and one that runs, grows or nests without end is an error, because a template
//! comes with a model from anywhere. `remat_jinja` sees to that: it counts what a rendering uses up.
//!
//! Look next at `turns`, which finds the trained part of a rendering.

use crate::chat::clock::Day;
use crate::chat::conversation::Conversation;
use remat_jinja::{Budget, Host, Rendering, Template, Value};
use std::sync::OnceLock;

/// Variables that a template is always given, and nobody else sets.
const OWN_VARIABLES: [&str; 4] = ["messages", "tools", "documents", "add_generation_prompt"];

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

/// A compiled chat template, or one for conversations with tools beside the one for the others.
#[derive(Debug)]
pub struct ChatTemplate {
    template: Compiled,
    for_tools: Option<Compiled>,
    special: SpecialTokens,
    kwargs: Vec<(String, Value)>,
    day: Day,
}

/// One template.
#[derive(Debug)]
pub(super) struct Compiled {
    template: Template,
    source: String,
    /// Whether it reads a content that is a list of parts; found out by `parts` when a row has one.
    pub(super) takes_parts: OnceLock<bool>,
}

impl Compiled {
    fn new(source: &str) -> Result<Self, String> {
        let template = Template::new(source).map_err(|error| error.to_string())?;
        Ok(Compiled { template, source: source.to_string(), takes_parts: OnceLock::new() })
    }
}

impl ChatTemplate {
    /// Compiles a template. The error says what is wrong with it and in which line.
    pub fn new(source: &str, special: SpecialTokens) -> Result<Self, String> {
        let template = Compiled::new(source)?;
        Ok(ChatTemplate { template, for_tools: None, special, kwargs: Vec::new(), day: Day::default() })
    }

    /// With another template for conversations that have tools.
    pub fn with_tool_use(self, source: &str) -> Result<Self, String> {
        let template = Compiled::new(source).map_err(|error| format!("its template for tools: {error}"))?;
        Ok(ChatTemplate { for_tools: Some(template), ..self })
    }

    /// With another day as today's, for templates that ask.
    pub fn on_day(self, day: Day) -> Self {
        ChatTemplate { day, ..self }
    }

    /// With variables for every rendering; a row's own go before them.
    pub fn with_kwargs(self, kwargs: Vec<(String, Value)>) -> Self {
        ChatTemplate { kwargs, ..self }
    }

    /// Whether conversations with tools have a template of their own.
    pub(super) fn has_tool_use(&self) -> bool {
        self.for_tools.is_some()
    }

    /// The template that a conversation is rendered by.
    pub(super) fn of(&self, conversation: &Conversation) -> &Compiled {
        match &self.for_tools {
            Some(for_tools) if conversation.has_tools() => for_tools,
            _ => &self.template,
        }
    }

    /// Whether the source of a conversation's template has this word: what it never names it cannot read.
    pub(crate) fn mentions(&self, conversation: &Conversation, word: &str) -> bool {
        let source = &self.of(conversation).source;
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        let alone = |(at, _): &(usize, &str)| {
            let (before, behind) = (&source[..*at], &source[at + word.len()..]);
            !is_part(before.chars().next_back()) && !is_part(behind.chars().next())
        };
        !word.is_empty() && source.match_indices(word).any(|found| alone(&found))
    }

    /// The text of a conversation, and with `add_generation_prompt` also what comes before the assistant's next turn.
    /// The error is the template's own (`raise_exception`), or says which limit it broke.
    pub fn render(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String, String> {
        self.rendering(conversation, conversation.values(), add_generation_prompt).map(|rendering| rendering.text)
    }

    /// As [`render`](Self::render), with other messages in place of the conversation's, and with what is known of the
    /// parts of the text.
    pub(crate) fn rendering(
        &self,
        conversation: &Conversation,
        messages: &[Value],
        add_generation_prompt: bool,
    ) -> Result<Rendering, String> {
        let tools = conversation.tools();
        let messages = Value::list(messages.to_vec()).map_err(|error| error.to_string())?;
        let budget = Budget::for_data(messages.text_bytes() + tools.text_bytes());
        let mut variables = vec![
            ("messages", messages),
            ("tools", tools.clone()),
            ("documents", Value::None),
            ("add_generation_prompt", Value::Bool(add_generation_prompt)),
        ];
        let given = conversation.kwargs().iter().chain(&self.kwargs);
        let given = given.filter(|(name, _)| !OWN_VARIABLES.contains(&name.as_str()));
        variables.extend(given.map(|(name, value)| (name.as_str(), value.clone())));
        let special = &self.special;
        let tokens = [("bos_token", &special.bos), ("eos_token", &special.eos), ("pad_token", &special.pad)];
        let known = tokens.into_iter().filter_map(|(name, token)| Some((name, Value::from(token.as_deref()?))));
        variables.extend(known);
        let host = Host { strftime_now: &|format| self.day.strftime(format), budget };
        self.of(conversation).template.render(&variables, &host).map_err(|error| error.to_string())
    }

    /// The token that ends a text.
    pub(crate) fn eos(&self) -> Option<&str> {
        self.special.eos.as_deref()
    }
}

/// The variables that a JSON object sets for a template.
pub(crate) fn template_variables(json: &str) -> Result<Vec<(String, Value)>, String> {
    let wrong = || "must be a JSON object, such as {\"enable_thinking\": false}".to_string();
    let value: Value = serde_json::from_str(json).map_err(|_| wrong())?;
    let entries = value.as_dict().ok_or_else(wrong)?.entries();
    let named = |(name, value): &(Value, Value)| (name.as_str().unwrap_or_default().to_string(), value.clone());
    let variables: Vec<(String, Value)> = entries.iter().map(named).collect();
    match variables.iter().find(|(name, _)| OWN_VARIABLES.contains(&name.as_str())) {
        Some((name, _)) => Err(format!("sets `{name}`, which comes from the rows")),
        None => Ok(variables),
    }
}
