//! What this crate asks of a tokenizer, and the label of what is not trained on. Invariant: the trait speaks of ids only;
//! which file they come from is the business of `formats`, and of `model_tokens`.

/// The label of a token that is not trained on.
pub const IGNORED_LABEL: i32 = -100;

/// A tokenizer as far as encoding rows needs one.
pub trait TokenSource {
    /// The ids of `text`. With `add_special`, also the tokens that the tokenizer itself puts around a text, such as
    /// BOS. The error says why the tokenizer refused.
    fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String>;

    /// Gives the ids of [`encode`](Self::encode) one by one, so that those of a long text need not be held.
    fn each_id(&self, text: &str, add_special: bool, give: &mut dyn FnMut(u32)) -> Result<(), String> {
        self.encode(text, add_special)?.into_iter().for_each(give);
        Ok(())
    }

    /// The tokens of `text`, without any around it, and where each stands in it. Needed for conversations, whose
    /// special tokens are part of the text.
    fn encode_spans(&self, text: &str) -> Result<Vec<TokenSpan>, String>;

    /// The token that ends a text, if the model has one.
    fn eos(&self) -> Option<u32>;
}

/// One token of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TokenSpan {
    /// Its id.
    pub id: u32,
    /// The byte of the text that it starts at.
    pub start: usize,
    /// The byte behind its last.
    pub end: usize,
    /// Whether the model knows it as a whole, not as a piece of text: BOS, an end of turn.
    pub special: bool,
}
