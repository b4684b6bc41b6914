//! A model folder's tokenizer and chat template, as rows are encoded with them. Invariants: the token that ends a text
//! is the tokenizer's own, and where its settings name none, the model's configuration does; what is wrong with a chat
//! template is said when a conversation needs it, not before.

use crate::chat::{ChatTemplate, Day, SpecialTokens, template_variables};
use crate::{DataError, TokenSource, TokenSpan};
use remat_formats::{
    ChatTemplates, FormatsError, SETTINGS_LIMIT_BYTES, Tokenizer, Tokens, read_text_file, sha256_bytes,
};
use std::ops::Range;
use std::path::Path;

/// A tokenizer, the end of text it is used with, and the chat template.
#[derive(Debug)]
pub struct ModelTokens {
    tokenizer: Tokenizer,
    eos: Option<u32>,
    special: SpecialTokens,
    templates: ChatTemplates,
    chat: Result<ChatTemplate, String>,
    asks_day: bool,
}

impl ModelTokens {
    /// Of a model folder; `config_eos` is the end of text that its `config.json` names. `None` if the folder has no
    /// `tokenizer.json`, which is right for rows of token ids.
    ///
    /// # Errors
    /// A tokenizer file that cannot be read.
    pub fn open(folder: &Path, config_eos: Option<u32>) -> Result<Option<Self>, DataError> {
        ModelTokens::open_with(folder, None, config_eos)
    }

    /// As [`ModelTokens::open`], with these bytes in place of the folder's `tokenizer.json`, if they are given.
    ///
    /// # Errors
    /// As [`ModelTokens::open`].
    pub fn open_with(folder: &Path, json: Option<&[u8]>, config_eos: Option<u32>) -> Result<Option<Self>, DataError> {
        // A link whose target is gone should be reported as such, not passed over.
        let tokenizer = match json {
            Some(json) => Tokenizer::from_dir_with(folder, json)?,
            None if folder.join("tokenizer.json").symlink_metadata().is_err() => return Ok(None),
            None => Tokenizer::from_dir(folder)?,
        };
        let eos = tokenizer.eos().or(config_eos);
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        let special = SpecialTokens { bos: text(tokenizer.bos()), eos: text(eos), pad: text(tokenizer.pad()) };
        let templates = tokenizer.chat_templates().clone();
        let mut tokens = ModelTokens { tokenizer, eos, special, templates, chat: Err(String::new()), asks_day: false };
        tokens.compile();
        Ok(Some(tokens))
    }

    /// Makes the chat template of the sources.
    fn compile(&mut self) {
        let compile = |source: &str| {
            let template = ChatTemplate::new(source, self.special.clone())?;
            match &self.templates.tool_use {
                Some(source) => template.with_tool_use(source),
                None => Ok(template),
            }
        };
        let sources = [&self.templates.default, &self.templates.tool_use];
        self.asks_day = sources.into_iter().flatten().any(|source| source.contains("strftime_now"));
        self.chat = match &self.templates.default {
            Some(source) => compile(source).map_err(|reason| format!("its chat template is broken: {reason}")),
            None => Err("it has no chat template; put the chat_template.jinja of the model's instruction-tuned \
                         version into the folder, give one with --chat-template FILE, or give \
                         {\"prompt\", \"completion\"} rows"
                .to_string()),
        };
    }

    /// With another chat template than the folder's, for all conversations.
    pub fn with_template(mut self, source: String) -> Self {
        self.templates = ChatTemplates { default: Some(source), tool_use: None };
        self.compile();
        self
    }

    /// With the chat template of a file in place of the folder's, and with variables for it, a JSON object such as
    /// `{"enable_thinking": false}`; a row's own go before them.
    ///
    /// # Errors
    /// A file that cannot be read or that holds no template; no object, or a variable that the rows set.
    pub fn with_chat(self, template: Option<&Path>, variables: Option<&str>) -> Result<Self, DataError> {
        let mut tokens = self;
        if let Some(path) = template {
            let remedy = "give the path of a file that holds a Jinja template";
            let source = read_text_file(path, SETTINGS_LIMIT_BYTES).map_err(FormatsError::reading(path, remedy))?;
            tokens = tokens.with_template(source);
            if let Err(reason) = &tokens.chat {
                let problem = reason.replacen("its", "the", 1);
                return Err(FormatsError::Malformed { path: path.to_path_buf(), problem }.into());
            }
        }
        if let Some(json) = variables {
            let variables = template_variables(json).map_err(|problem| DataError::TemplateVariables { problem })?;
            tokens.chat = tokens.chat.map(|chat| chat.with_kwargs(variables));
        }
        Ok(tokens)
    }

    /// Whether the chat template asks for today's date.
    pub fn asks_for_the_day(&self) -> bool {
        self.chat.is_ok() && self.asks_day
    }

    /// With the day that the chat template sees as today's.
    pub fn on_day(self, day: Day) -> Self {
        ModelTokens { chat: self.chat.map(|chat| chat.on_day(day)), ..self }
    }

    /// Changes with whatever decides what rows become, but for the day and the variables that the template is given.
    pub fn identity(&self) -> String {
        let ModelTokens { tokenizer, eos, special, templates, .. } = self;
        sha256_bytes(format!("{} {eos:?} {special:?} {templates:?}", tokenizer.sha256()).as_bytes())
    }

    /// The tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The chat template, or why there is none.
    pub fn chat(&self) -> Result<&ChatTemplate, &str> {
        self.chat.as_ref().map_err(String::as_str)
    }
}

impl TokenSource for ModelTokens {
    fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        self.tokenizer.encode(text, add_special)
    }

    fn each_id(&self, text: &str, add_special: bool, give: &mut dyn FnMut(u32)) -> Result<(), String> {
        self.tokenizer.each_id(text, add_special, give)
    }

    fn encode_spans(&self, text: &str) -> Result<Vec<TokenSpan>, String> {
        let Tokens { tokens, without_token } = self.tokenizer.encode_spans(text)?;
        // What the model would read is then not what is shown, and the places of the other tokens cannot be trusted.
        if let Some((c, at)) = without_token {
            return Err(format!("it has no token for some of the text, near {c:?} (byte {at})"));
        }
        let span = |(id, range): (u32, Range<usize>)| {
            let special = self.tokenizer.is_special(id) || Some(id) == self.eos;
            TokenSpan { id, start: range.start, end: range.end, special }
        };
        Ok(tokens.into_iter().map(span).collect())
    }

    fn eos(&self) -> Option<u32> {
        self.eos
    }
}
