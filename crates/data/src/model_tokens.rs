//! A model folder's tokenizer and chat template, as rows are encoded with them. Invariants: the token that ends a text
//! is the tokenizer's own, and where its settings name none, the model's configuration does; what is wrong with a chat
//! template is said when a conversation needs it, not before.

use crate::chat::{ChatTemplate, Day, SpecialTokens};
use crate::{DataError, TokenSource, TokenSpan};
use remat_formats::{Tokenizer, Tokens};
use std::ops::Range;
use std::path::Path;

/// A tokenizer, the end of text it is used with, and the chat template.
#[derive(Debug)]
pub struct ModelTokens {
    tokenizer: Tokenizer,
    eos: Option<u32>,
    chat: Result<ChatTemplate, String>,
}

impl ModelTokens {
    /// Of a model folder; `config_eos` is the end of text that its `config.json` names. `None` if the folder has no
    /// `tokenizer.json`, which is right for rows of token ids.
    ///
    /// # Errors
    /// A tokenizer file that cannot be read.
    pub fn open(folder: &Path, config_eos: Option<u32>) -> Result<Option<Self>, DataError> {
        if !folder.join("tokenizer.json").exists() {
            return Ok(None);
        }
        let tokenizer = Tokenizer::from_dir(folder)?;
        let eos = tokenizer.eos().or(config_eos);
        let text = |id: Option<u32>| id.and_then(|id| tokenizer.id_to_token(id));
        let special = SpecialTokens { bos: text(tokenizer.bos()), eos: text(eos), pad: text(tokenizer.pad()) };
        let chat = match tokenizer.chat_template() {
            Some(source) => {
                ChatTemplate::new(source, special).map_err(|reason| format!("its chat template is broken: {reason}"))
            }
            None => Err("it has no chat template; put the chat_template.jinja of the model's instruction-tuned \
                         version into the folder, or give {\"prompt\", \"completion\"} rows"
                .to_string()),
        };
        Ok(Some(ModelTokens { tokenizer, eos, chat }))
    }

    /// Whether the chat template asks for today's date.
    pub fn asks_for_the_day(&self) -> bool {
        self.chat.is_ok() && self.tokenizer.chat_template().is_some_and(|source| source.contains("strftime_now"))
    }

    /// With the day that the chat template sees as today's.
    pub fn on_day(self, day: Day) -> Self {
        ModelTokens { chat: self.chat.map(|chat| chat.on_day(day)), ..self }
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
