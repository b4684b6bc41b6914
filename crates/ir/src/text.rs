//! Reads a line of a text form token by token: of a graph's, and of what has a graph in it.
//!
//! Invariant: no text can make a reader panic or ask for more memory than its own length.

use crate::{Type, ValueId};
use remat_tensor::DType;

/// What is left of a line. Every reader skips the blanks behind what it read; its error says what was expected, and before
/// which text.
#[derive(Debug, Clone)]
pub struct Text<'a> {
    rest: &'a str,
}

impl<'a> Text<'a> {
    /// A whole line, without the blanks around it.
    pub fn new(line: &'a str) -> Self {
        Text { rest: line.trim() }
    }

    /// What is left.
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// Reads all that is left.
    pub fn remainder(&mut self) -> &'a str {
        self.take(self.rest.len())
    }

    fn take(&mut self, bytes: usize) -> &'a str {
        let (taken, rest) = self.rest.split_at(bytes);
        self.rest = rest.trim_start();
        taken
    }

    /// Whether `token` came next; if so, it is read.
    pub fn eat(&mut self, token: &str) -> bool {
        let found = self.rest.starts_with(token);
        if found {
            self.take(token.len());
        }
        found
    }

    /// Reads `token`.
    ///
    /// # Errors
    /// Something else comes next.
    pub fn expect(&mut self, token: &str) -> Result<(), String> {
        if self.eat(token) { Ok(()) } else { Err(format!("expected '{token}' before '{}'", self.excerpt())) }
    }

    /// # Errors
    /// The line does not end here.
    pub fn end(&self) -> Result<(), String> {
        if self.rest.is_empty() { Ok(()) } else { Err(format!("unexpected '{}'", self.excerpt())) }
    }

    /// The beginning of what is left, for messages.
    pub fn excerpt(&self) -> String {
        self.rest.chars().take(24).collect()
    }

    /// Letters, digits and underscores.
    pub fn word(&mut self) -> &'a str {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        self.take(end.unwrap_or(self.rest.len()))
    }

    /// A number in decimal digits.
    ///
    /// # Errors
    /// None comes next, or one that is too large.
    pub fn number(&mut self) -> Result<usize, String> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let excerpt = self.excerpt();
        self.take(end).parse().map_err(|_| format!("expected a number before '{excerpt}'"))
    }

    /// A sign and the number of an id behind it.
    ///
    /// # Errors
    /// None comes next, or one that is too large.
    pub fn id(&mut self, sign: &str) -> Result<u32, String> {
        self.expect(sign)?;
        let number = self.number()?;
        u32::try_from(number).map_err(|_| format!("{sign}{number} is too large"))
    }

    /// Items in brackets, divided by commas.
    ///
    /// # Errors
    /// No such list comes next; whatever `item` refuses.
    pub fn items<T>(
        &mut self,
        open: &str,
        close: &str,
        item: impl Fn(&mut Self) -> Result<T, String>,
    ) -> Result<Vec<T>, String> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.eat(close) {
            if !items.is_empty() {
                self.expect(",")?;
            }
            items.push(item(self)?);
        }
        Ok(items)
    }

    pub(crate) fn list(&mut self) -> Result<Vec<ValueId>, String> {
        self.items("(", ")", |text| Ok(ValueId(text.id("%")?)))
    }

    pub(crate) fn ty(&mut self) -> Result<Type, String> {
        let dtype: DType = self.word().parse()?;
        Ok(Type::new(dtype, self.items("[", "]", Text::number)?))
    }

    /// The JSON object of an op's attributes; empty if there is none.
    pub(crate) fn json(&mut self) -> Result<&'a str, String> {
        if !self.rest.starts_with('{') {
            return Ok("");
        }
        let mut values = serde_json::Deserializer::from_str(self.rest).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let end = values.byte_offset();
                Ok(self.take(end))
            }
            Some(Err(error)) => Err(format!("attributes: {error}")),
            None => Err("attributes: missing".to_string()),
        }
    }

    /// A quoted string as `{:?}` prints it.
    pub(crate) fn string(&mut self) -> Result<String, String> {
        let excerpt = self.excerpt();
        let fault = || format!("expected a quoted name before '{excerpt}'");
        let mut string = String::new();
        let mut chars = self.rest.char_indices();
        if chars.next().is_none_or(|(_, c)| c != '"') {
            return Err(fault());
        }
        loop {
            match chars.next().ok_or_else(fault)? {
                (end, '"') => {
                    self.take(end + 1);
                    return Ok(string);
                }
                (_, '\\') => string.push(escape(&mut chars).ok_or_else(fault)?),
                (_, c) => string.push(c),
            }
        }
    }
}

/// The character of an escape whose backslash has been read.
fn escape(chars: &mut std::str::CharIndices<'_>) -> Option<char> {
    match chars.next()?.1 {
        't' => Some('\t'),
        'r' => Some('\r'),
        'n' => Some('\n'),
        '0' => Some('\0'),
        c @ ('"' | '\'' | '\\') => Some(c),
        'u' => {
            let hex = chars.as_str().strip_prefix('{')?.split_once('}')?.0;
            if hex.is_empty() || hex.len() > 6 {
                return None;
            }
            let c = char::from_u32(u32::from_str_radix(hex, 16).ok()?)?;
            chars.nth(hex.len() + 1);
            Some(c)
        }
        _ => None,
    }
}
