//! Text from tokens as they come. Invariant: the pieces together are the text of all tokens; a piece never ends inside
//! a character, and what a tokenizer makes of a token after others (a leading blank) is kept.

use remat_formats::Tokenizer;

/// Tokens before the first that decide how it is written.
const CONTEXT: usize = 6;

/// Decodes a continuation piece by piece.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    ids: Vec<u32>,
    /// Tokens before this one are not looked at any more.
    context: usize,
    /// Tokens before this one are written.
    written: usize,
}

impl<'a> TextStream<'a> {
    /// A stream that goes on after `prompt`.
    pub fn after(tokenizer: &'a Tokenizer, prompt: &[u32]) -> Self {
        let ids = prompt[prompt.len().saturating_sub(CONTEXT)..].to_vec();
        TextStream { tokenizer, context: 0, written: ids.len(), ids }
    }

    /// Takes a token and gives the text that is complete with it; empty inside a character.
    ///
    /// # Errors
    /// The tokenizer's message.
    pub fn push(&mut self, id: u32) -> Result<String, String> {
        self.ids.push(id);
        let piece = self.unwritten()?;
        if piece.is_empty() || piece.ends_with('\u{FFFD}') {
            return Ok(String::new());
        }
        (self.context, self.written) = (self.written, self.ids.len());
        Ok(piece)
    }

    /// What is left at the end: a character that was never completed.
    ///
    /// # Errors
    /// The tokenizer's message.
    pub fn finish(mut self) -> Result<String, String> {
        let piece = self.unwritten()?;
        self.written = self.ids.len();
        Ok(piece)
    }

    fn unwritten(&self) -> Result<String, String> {
        let before = self.tokenizer.decode(&self.ids[self.context..self.written], true)?;
        let all = self.tokenizer.decode(&self.ids[self.context..], true)?;
        Ok(all.get(before.len()..).unwrap_or_default().to_string())
    }
}
