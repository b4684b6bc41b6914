//! What can be wrong with a template or a rendering. Invariant: an error is one line, says the template's line where it is
//! known, and text that comes from the template or its data is cut.

use std::fmt;

/// Result of anything that a template does.
pub type Result<T> = std::result::Result<T, Error>;

/// Longest text of a template or its data in a message, in characters.
const EXCERPT_CHARS: usize = 160;

/// Why a template does not compile or a rendering stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(Box<Inner>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Inner {
    what: String,
    line: Option<usize>,
    kind: Kind,
}

/// Whether other input could have gone better.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The template is not Jinja, or uses what is not supported.
    Syntax,
    /// The template called `raise_exception`.
    Raised,
    /// Python would have refused an operation, too.
    Operation,
    /// The rendering broke its budget of steps, bytes or depth.
    Budget,
}

impl Error {
    pub(crate) fn syntax(line: usize, what: impl Into<String>) -> Self {
        Error(Box::new(Inner { what: what.into(), line: Some(line), kind: Kind::Syntax }))
    }

    /// An operation that Python refuses.
    pub fn operation(what: impl Into<String>) -> Self {
        Error(Box::new(Inner { what: what.into(), line: None, kind: Kind::Operation }))
    }

    pub(crate) fn raised(what: &str) -> Self {
        Error(Box::new(Inner { what: excerpt(what), line: None, kind: Kind::Raised }))
    }

    pub(crate) fn budget(what: impl Into<String>) -> Self {
        Error(Box::new(Inner { what: what.into(), line: None, kind: Kind::Budget }))
    }

    /// With the line of the template, unless a line is known already.
    pub(crate) fn at(mut self, line: usize) -> Self {
        self.0.line.get_or_insert(line);
        self
    }

    /// What sort of error this is.
    pub fn kind(&self) -> Kind {
        self.0.kind
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.line {
            Some(line) => write!(f, "{} (line {line} of the template)", self.0.what),
            None => f.write_str(&self.0.what),
        }
    }
}

impl std::error::Error for Error {}

/// The beginning of a text, in one line and without what could steer a terminal.
pub(crate) fn excerpt(text: &str) -> String {
    let shown = text.chars().take(EXCERPT_CHARS);
    let mut short: String =
        shown.flat_map(|c| if c.is_control() { c.escape_debug().collect() } else { vec![c] }).collect();
    if text.chars().nth(EXCERPT_CHARS).is_some() {
        short.push('…');
    }
    short
}
