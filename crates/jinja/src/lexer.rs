//! A template's text becomes tokens, white space of tags dealt with as Jinja does under `trim_blocks` and `lstrip_blocks`.
//!
//! - `{%-` takes all white space before it, `-%}` all behind it; so do comments and, but for `trim_blocks`, `{{ }}`.
//! - a block or comment that only white space stands before on its line takes that white space, unless it begins `{%+`;
//! - a newline right behind a block or comment goes, unless it ends `+%}`;
//! - the template's last newline goes, and `\r\n` and `\r` are `\n`.
//!
//! Invariant: every token knows its line.

use crate::error::{Error, Result};
use std::sync::Arc;

/// A piece of a template.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Token {
    /// Text between tags.
    Data(Arc<str>),
    /// `{{`, `}}`, `{%` and `%}`.
    OutputBegin,
    OutputEnd,
    BlockBegin,
    BlockEnd,
    Name(Arc<str>),
    Str(Arc<str>),
    Int(i128),
    Float(f64),
    /// An operator or bracket.
    Sign(&'static str),
    /// The end of the template.
    End,
}

const SIGNS: [&str; 27] = [
    "**", "//", "==", "!=", "<=", ">=", "+", "-", "/", "*", "%", "~", "[", "]", "(", ")", "{", "}", "<", ">", "=", ".",
    ":", "|", ",", ";", "!",
];

/// The tokens of a template, each with its line.
pub(crate) fn tokens(source: &str) -> Result<Vec<(Token, usize)>> {
    let mut source = source.replace("\r\n", "\n").replace('\r', "\n");
    if source.ends_with('\n') {
        source.pop();
    }
    let mut lexer = Lexer { source: &source, at: 0, line: 1, line_starts: true, tokens: Vec::new() };
    lexer.run()?;
    let line = lexer.line;
    lexer.tokens.push((Token::End, line));
    Ok(lexer.tokens)
}

struct Lexer<'a> {
    source: &'a str,
    at: usize,
    line: usize,
    /// Whether what came before ended in a newline.
    line_starts: bool,
    tokens: Vec<(Token, usize)>,
}

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        &self.source[self.at..]
    }

    fn push(&mut self, token: Token) {
        self.tokens.push((token, self.line));
    }

    /// Goes on by so many bytes.
    fn pass(&mut self, bytes: usize) {
        let passed = &self.rest()[..bytes];
        self.line += passed.matches('\n').count();
        if let Some(last) = passed.chars().next_back() {
            self.line_starts = last == '\n';
        }
        self.at += bytes;
    }

    fn run(&mut self) -> Result<()> {
        while self.at < self.source.len() {
            let rest = self.rest();
            let open = rest.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"));
            let Some(open) = open else {
                self.data(rest);
                self.pass(rest.len());
                break;
            };
            let tag = &rest[open..];
            self.data(self.before(&rest[..open], tag));
            self.pass(open);
            let sign = usize::from(tag[2..].starts_with(['-', '+']));
            match &tag[..2] {
                "{#" => self.comment(tag)?,
                "{%" if keyword(tag) == "raw" => self.raw(tag)?,
                "{%" => {
                    self.push(Token::BlockBegin);
                    self.pass(2 + sign);
                    self.code("%}", Token::BlockEnd)?;
                }
                _ => {
                    self.push(Token::OutputBegin);
                    // A plus is the sign of a number here.
                    self.pass(if tag[2..].starts_with('-') { 3 } else { 2 });
                    self.code("}}", Token::OutputEnd)?;
                }
            }
        }
        Ok(())
    }

    fn data(&mut self, text: &str) {
        if !text.is_empty() {
            self.push(Token::Data(text.into()));
        }
    }

    /// What is left of the text before a tag.
    fn before(&self, text: &'a str, tag: &str) -> &'a str {
        match tag[2..].chars().next() {
            Some('-') => return text.trim_end(),
            Some('+') => return text,
            _ if tag.starts_with("{{") => return text,
            _ => {}
        }
        let line = text.rfind('\n').map_or(0, |newline| newline + 1);
        let whole_line = line > 0 || self.line_starts;
        match whole_line && text[line..].chars().all(char::is_whitespace) {
            true => &text[..line],
            false => text,
        }
    }

    /// Passes over the end of a tag and the white space that it takes. `end` begins at its sign, if it has one.
    fn pass_end(&mut self, closing: &str) {
        let rest = self.rest();
        let signed = rest.starts_with(['-', '+']);
        let behind = &rest[usize::from(signed) + closing.len()..];
        let white = match rest.as_bytes().first() {
            Some(b'-') => behind.len() - behind.trim_start().len(),
            Some(b'+') => 0,
            _ => usize::from(closing != "}}" && behind.starts_with('\n')),
        };
        self.pass(rest.len() - behind.len() + white);
    }

    fn comment(&mut self, tag: &str) -> Result<()> {
        let close = tag.find("#}").filter(|&close| close >= 2);
        let close = close.ok_or_else(|| Error::syntax(self.line, "a comment has no end"))?;
        // A plus at the end of a comment belongs to it.
        let sign = close > 2 && tag[..close].ends_with('-');
        self.pass(close - usize::from(sign));
        self.pass_end("#}");
        Ok(())
    }

    fn raw(&mut self, tag: &str) -> Result<()> {
        let lost = || Error::syntax(self.line, "a raw block has no end");
        let close = tag.find("%}").ok_or_else(lost)?;
        let sign = tag[..close].ends_with('-');
        let line = self.line;
        self.pass(close - usize::from(sign));
        // A raw block's beginning does not take the newline behind it.
        if sign {
            self.pass_end("%}")
        } else {
            self.pass(2)
        }
        let rest = self.rest();
        let opens = rest.match_indices("{%").map(|(at, _)| at);
        let end = opens.into_iter().find(|&at| keyword(&rest[at..]) == "endraw");
        let end = end.ok_or_else(|| Error::syntax(line, "a raw block has no end"))?;
        let tag = &rest[end..];
        self.data(self.before(&rest[..end], tag));
        self.pass(end);
        let close = tag.find("%}").ok_or_else(|| Error::syntax(line, "a raw block has no end"))?;
        let signed = tag[..close].ends_with(['-', '+']);
        self.pass(close - usize::from(signed));
        self.pass_end("%}");
        Ok(())
    }

    /// The tokens up to the end of a tag. Braces of dictionaries are counted.
    fn code(&mut self, closing: &'static str, end: Token) -> Result<()> {
        let mut open = Vec::new();
        loop {
            let rest = self.rest();
            let white = rest.len() - rest.trim_start().len();
            self.pass(white);
            let rest = self.rest();
            if open.is_empty() {
                let signed = usize::from(rest.starts_with('-') || (closing == "%}" && rest.starts_with('+')));
                if rest[signed..].starts_with(closing) {
                    self.push(end);
                    self.pass_end(closing);
                    return Ok(());
                }
            }
            let Some(first) = rest.chars().next() else {
                return Err(Error::syntax(self.line, format!("a tag is not closed by {closing}")));
            };
            match first {
                '"' | '\'' => self.string(first)?,
                '0'..='9' => self.number()?,
                c if c == '_' || c.is_alphabetic() => {
                    let length = rest.find(|c: char| c != '_' && !c.is_alphanumeric()).unwrap_or(rest.len());
                    self.push(Token::Name(rest[..length].into()));
                    self.pass(length);
                }
                c => {
                    let sign = SIGNS.iter().find(|sign| rest.starts_with(**sign));
                    let &sign = sign.ok_or_else(|| Error::syntax(self.line, format!("unexpected {c:?}")))?;
                    self.balance(&mut open, sign)?;
                    self.push(Token::Sign(sign));
                    self.pass(sign.len());
                }
            }
        }
    }

    fn balance(&self, open: &mut Vec<&'static str>, sign: &'static str) -> Result<()> {
        let closing = match sign {
            "(" => ")",
            "[" => "]",
            "{" => "}",
            ")" | "]" | "}" => {
                return match open.pop() {
                    Some(expected) if expected == sign => Ok(()),
                    Some(expected) => Err(Error::syntax(self.line, format!("unexpected '{sign}', not '{expected}'"))),
                    None => Err(Error::syntax(self.line, format!("unexpected '{sign}'"))),
                };
            }
            _ => return Ok(()),
        };
        open.push(closing);
        Ok(())
    }

    fn string(&mut self, quote: char) -> Result<()> {
        let rest = self.rest();
        let bytes = rest.as_bytes();
        let mut end = 1;
        while end < bytes.len() && bytes[end] != quote as u8 {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        if end >= bytes.len() {
            return Err(Error::syntax(self.line, "a text in quotes has no end"));
        }
        let text = unescape(&rest[1..end]).map_err(|what| Error::syntax(self.line, what))?;
        self.push(Token::Str(text.into()));
        self.pass(end + 1);
        Ok(())
    }

    fn number(&mut self) -> Result<()> {
        let rest = self.rest();
        let digits = |text: &str| {
            let end = text.find(|c: char| !c.is_ascii_digit() && c != '_').unwrap_or(text.len());
            text[..end].trim_end_matches('_').len()
        };
        let bad = |text: &str| Error::syntax(self.line, format!("{} is no number", crate::error::excerpt(text)));
        let radix = match rest.as_bytes().get(1).map(u8::to_ascii_lowercase) {
            Some(letter @ (b'x' | b'o' | b'b')) if rest.starts_with('0') => Some(letter),
            _ => None,
        };
        if let Some(letter) = radix {
            let base = match letter {
                b'x' => 16,
                b'o' => 8,
                _ => 2,
            };
            let end = rest[2..].find(|c: char| !c.is_digit(base) && c != '_').map_or(rest.len(), |end| end + 2);
            let number = i128::from_str_radix(&rest[2..end].replace('_', ""), base);
            self.push(Token::Int(number.map_err(|_| bad(&rest[..end]))?));
            self.pass(end);
            return Ok(());
        }
        let mut end = digits(rest);
        let whole = end;
        if rest[end..].starts_with('.') && rest[end + 1..].starts_with(|c: char| c.is_ascii_digit()) {
            end += 1 + digits(&rest[end + 1..]);
        }
        if let Some(exponent) = rest[end..].strip_prefix(['e', 'E']) {
            let sign = usize::from(exponent.starts_with(['-', '+']));
            let length = digits(&exponent[sign..]);
            end += if length > 0 { 1 + sign + length } else { 0 };
        }
        let text = rest[..end].replace('_', "");
        let token = match end == whole {
            true => Token::Int(text.parse().map_err(|_| bad(&text))?),
            false => Token::Float(text.parse().map_err(|_| bad(&text))?),
        };
        self.push(token);
        self.pass(end);
        Ok(())
    }
}

/// The first word of a `{% %}` tag.
fn keyword(tag: &str) -> &str {
    let inner = tag[2..].trim_start_matches(['-', '+']).trim_start();
    let end = inner.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(inner.len());
    &inner[..end]
}

/// Python's escapes in a text.
fn unescape(text: &str) -> std::result::Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let Some(letter) = rest.chars().next() else { break };
        rest = &rest[letter.len_utf8()..];
        let hex = match letter {
            'x' => 2,
            'u' => 4,
            'U' => 8,
            _ => 0,
        };
        match letter {
            '\n' => {}
            'n' => out.push('\n'),
            't' => out.push('\t'),
            'r' => out.push('\r'),
            'a' => out.push('\u{7}'),
            'b' => out.push('\u{8}'),
            'f' => out.push('\u{c}'),
            'v' => out.push('\u{b}'),
            '\\' | '\'' | '"' => out.push(letter),
            'x' | 'u' | 'U' => {
                let digits = rest.get(..hex).filter(|digits| digits.chars().all(|c| c.is_ascii_hexdigit()));
                let c = digits.and_then(|digits| char::from_u32(u32::from_str_radix(digits, 16).ok()?));
                out.push(c.ok_or_else(|| format!("\\{letter} needs {hex} digits of a character"))?);
                rest = &rest[hex..];
            }
            '0'..='7' => {
                let more = rest.bytes().take(2).take_while(|byte| (b'0'..=b'7').contains(byte)).count();
                let digits = format!("{letter}{}", &rest[..more]);
                out.extend(u32::from_str_radix(&digits, 8).ok().and_then(char::from_u32));
                rest = &rest[more..];
            }
            other => out.extend(['\\', other]),
        }
    }
    out.push_str(rest);
    Ok(out)
}
