//! The flags that say how conversations become text, for the verbs that train nothing; `train` has these among its settings.

use remat_data::{DataError, Day, ModelTokens};
use remat_formats::Places;
use remat_train::today;
use std::path::PathBuf;

/// The chat template and what it is given.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct TemplateArgs {
    /// Day that a chat template which asks sees as today's, as 2026-01-31 [default: today, in UTC]
    #[arg(long, value_name = "DATE")]
    pub(crate) chat_date: Option<Day>,

    /// Chat template to use in place of the model's own, a file of Jinja
    #[arg(long, value_name = "FILE")]
    pub(crate) chat_template: Option<PathBuf>,

    /// Variables for the chat template as a JSON object, such as {"enable_thinking": false}; a row's own go before them
    #[arg(long, value_name = "JSON")]
    pub(crate) chat_template_kwargs: Option<String>,
}

impl TemplateArgs {
    /// The file that is read, if one was named.
    pub(crate) fn inputs(&self, places: Places) -> Places {
        self.chat_template.iter().fold(places, |places, path| places.reads("--chat-template", path))
    }

    /// A model's tokens with this template in place of its own.
    pub(crate) fn of(&self, tokens: ModelTokens) -> Result<ModelTokens, DataError> {
        let tokens = tokens.with_chat(self.chat_template.as_deref(), self.chat_template_kwargs.as_deref())?;
        Ok(tokens.on_day(self.chat_date.unwrap_or_else(today)))
    }
}
