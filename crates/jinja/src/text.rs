//! Texts that know who says them. Invariant: a part of a text knows the same of its bytes; a text that is made anew of one
//! is said as a whole by whoever said any of it, and a text of two messages is nobody's.

use std::sync::Arc;

/// A text, and which of its bytes a message says.
#[derive(Clone, Debug)]
pub struct Str {
    pub(crate) text: Arc<str>,
    said: Option<Said>,
}

/// A range of bytes with the number of the message that they are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The message.
    pub message: u32,
    /// The first byte.
    pub start: usize,
    /// The byte behind the last.
    pub end: usize,
}

impl Str {
    pub(crate) fn new(text: impl Into<Arc<str>>, said: Option<Said>) -> Self {
        Str { text: text.into(), said: said.filter(|said| said.start < said.end) }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub(crate) fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// Which part of it a message says.
    pub fn said(&self) -> Option<Said> {
        self.said
    }

    /// A part of the text, as a text of its own.
    pub(crate) fn part(&self, start: usize, end: usize) -> Str {
        if start == 0 && end == self.text.len() {
            return self.clone();
        }
        let said = self.said.map(|said| Said {
            start: said.start.clamp(start, end) - start,
            end: said.end.clamp(start, end) - start,
            ..said
        });
        Str::new(&self.text[start..end], said)
    }

    /// Another text made of this one, as a whole.
    pub(crate) fn remade(&self, text: String) -> Str {
        let said = self.said.map(|said| Said { start: 0, end: text.len(), ..said });
        Str::new(text, said)
    }

    /// Who says any of it.
    pub(crate) fn speaker(&self) -> Option<u32> {
        self.said.map(|said| said.message)
    }
}

/// A text in the making, which keeps what is said in it.
#[derive(Debug, Default)]
pub(crate) struct TextBuilder {
    pub(crate) text: String,
    said: Option<Said>,
    mixed: bool,
}

impl TextBuilder {
    pub(crate) fn push(&mut self, part: &Str) {
        if let Some(said) = part.said {
            let at = self.text.len();
            self.say(Said { start: at + said.start, end: at + said.end, ..said });
        }
        self.text.push_str(&part.text);
    }

    pub(crate) fn push_str(&mut self, part: &str) {
        self.text.push_str(part);
    }

    /// Notes that all from `start` on is said by a message.
    pub(crate) fn say_from(&mut self, start: usize, speaker: Option<u32>) {
        if let Some(message) = speaker {
            self.say(Said { message, start, end: self.text.len() });
        }
    }

    fn say(&mut self, more: Said) {
        match &mut self.said {
            None => self.said = Some(more),
            Some(said) if said.message == more.message => {
                said.start = said.start.min(more.start);
                said.end = said.end.max(more.end);
            }
            Some(_) => self.mixed = true,
        }
    }

    pub(crate) fn finish(self) -> Str {
        // A text of two messages is nobody's.
        let said = if self.mixed { None } else { self.said };
        Str::new(self.text, said)
    }
}
