//! What this crate asks of a tokenizer. Invariant: the trait speaks of ids only; which file they come from is the
//! business of `formats`.

/// A tokenizer as far as encoding rows needs one.
pub trait TokenSource {
    /// The ids of `text`. With `add_special`, also the tokens that the tokenizer itself puts around a text, such as
    /// BOS. The error says why the tokenizer refused.
    fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String>;

    /// The token that ends a text, if the model has one.
    fn eos(&self) -> Option<u32>;
}
