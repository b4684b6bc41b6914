//! PTX text into words and punctuation, each with its line. Comments and the compiler's `.loc` lines vanish here.

use crate::error::PtxError;

/// A word (identifier, number, directive, opcode), a quoted string, or one punctuation character.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Token<'a> {
    Word(&'a str),
    Text(&'a str),
    Mark(char),
}

/// A token and its line, from 1.
pub(crate) type Placed<'a> = (Token<'a>, u32);

pub(crate) fn lex(text: &str) -> Result<Vec<Placed<'_>>, PtxError> {
    let bytes = text.as_bytes();
    let (mut at, mut line) = (0, 1);
    let mut tokens = Vec::new();
    while at < bytes.len() {
        let rest = &text[at..];
        let byte = bytes[at];
        if byte == b'\n' {
            line += 1;
            at += 1;
        } else if byte.is_ascii_whitespace() {
            at += 1;
        } else if rest.starts_with("//") || is_word_start(rest, ".loc") {
            at += rest.find('\n').unwrap_or(rest.len());
        } else if rest.starts_with("/*") {
            let end = rest.find("*/").ok_or_else(|| read(line, "a comment has no end"))?;
            line += rest[..end].matches('\n').count() as u32;
            at += end + 2;
        } else if byte == b'"' {
            let end = rest[1..].find('"').ok_or_else(|| read(line, "a string has no end"))?;
            tokens.push((Token::Text(&rest[1..=end]), line));
            at += end + 2;
        } else if is_word(byte) && byte != b':' {
            let end = bytes[at..].iter().position(|&b| !is_word(b)).unwrap_or(rest.len());
            let end = if rest[..end].contains("::") { end } else { rest[..end].find(':').unwrap_or(end) };
            tokens.push((Token::Word(&rest[..end]), line));
            at += end;
        } else if byte.is_ascii_punctuation() {
            tokens.push((Token::Mark(char::from(byte)), line));
            at += 1;
        } else {
            return Err(read(line, "a character that PTX does not have"));
        }
    }
    Ok(tokens)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_$%.:".contains(&byte)
}

fn is_word_start(rest: &str, word: &str) -> bool {
    rest.strip_prefix(word).is_some_and(|after| after.starts_with([' ', '\t']))
}

fn read(line: u32, problem: &str) -> PtxError {
    PtxError::Read { line, problem: problem.into() }
}
