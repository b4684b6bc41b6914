//! A template's text before it is compiled. Two things are done to what stands between `{{ }}` and `{% %}`:
//!
//! - `generation` and `endgeneration`, with which transformers marks the assistant's part, become an `if true` block;
//! - the left side of each `+` and `~` passes a guard, so that a text cannot double without end in memory.
//!
//! Invariant: neither changes what a template within its limits renders; texts, comments and raw blocks are left alone.

/// The filter on the left of `+` and `~`.
pub(crate) const JOIN_GUARD: &str = "__join_guard";

/// The template as it is compiled.
pub(crate) fn prepare(source: &str) -> String {
    let mut out = String::with_capacity(source.len() + source.len() / 4);
    let mut rest = source;
    while let Some(open) = next_tag(rest) {
        let (text, tag) = rest.split_at(open);
        out.push_str(text);
        let closing = match &tag[..2] {
            "{#" => "#}",
            "{%" => "%}",
            _ => "}}",
        };
        let end = if closing == "#}" { tag.find(closing) } else { code_end(tag, closing) };
        let Some(end) = end.map(|end| end + closing.len()) else {
            // The compiler says better what is wrong with a tag that never closes.
            out.push_str(tag);
            return out;
        };
        let (tag, after) = tag.split_at(end);
        match closing {
            "#}" => out.push_str(tag),
            _ => push_code(&mut out, tag),
        }
        rest = after;
        if closing == "%}" && keyword(tag) == "raw" {
            let end = raw_end(rest);
            out.push_str(&rest[..end]);
            rest = &rest[end..];
        }
    }
    out.push_str(rest);
    out
}

/// Where the next tag opens.
fn next_tag(text: &str) -> Option<usize> {
    text.as_bytes().windows(2).position(|pair| matches!(pair, b"{{" | b"{%" | b"{#"))
}

/// Where the code of a tag closes, texts in quotes passed over. `{{` may hold a dictionary: its braces are counted.
fn code_end(tag: &str, closing: &str) -> Option<usize> {
    let bytes = tag.as_bytes();
    let mut braces = 0;
    let mut at = 2;
    while at < bytes.len() {
        match bytes[at] {
            quote @ (b'"' | b'\'') => at = text_end(bytes, at, quote),
            b'}' if braces > 0 => braces -= 1,
            _ if bytes[at..].starts_with(closing.as_bytes()) => return Some(at),
            b'{' => braces += 1,
            _ => {}
        }
        at += 1;
    }
    None
}

/// The position of the quote that closes the text opened at `start`; the end if none does.
fn text_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != quote {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// The first word of a `{% %}` tag.
fn keyword(tag: &str) -> &str {
    let inner = tag[2..].trim_start_matches(['-', '+']).trim_start();
    let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
    &inner[..end]
}

/// Where the `endraw` tag that closes a raw block begins.
fn raw_end(text: &str) -> usize {
    let opens = text.match_indices("{%").map(|(at, _)| at);
    opens.into_iter().find(|&at| keyword(&text[at..]) == "endraw").unwrap_or(text.len())
}

fn push_code(out: &mut String, tag: &str) {
    let word = if tag.starts_with("{%") { keyword(tag) } else { "" };
    if let "generation" | "endgeneration" = word {
        let replacement = if word == "generation" { "if true" } else { "endif" };
        out.push_str(&tag.replacen(word, replacement, 1));
        return;
    }
    let bytes = tag.as_bytes();
    // The signs right behind the opening and before the closing are about white space.
    let (mut copied, last) = (0, tag.len() - 3);
    let mut at = 3;
    while at < last {
        match bytes[at] {
            quote @ (b'"' | b'\'') => at = text_end(bytes, at, quote),
            b'+' | b'~' if ends_operand(&tag[..at]) => {
                out.extend([&tag[copied..at], "|", JOIN_GUARD, " "]);
                copied = at;
            }
            _ => {}
        }
        at += 1;
    }
    out.push_str(&tag[copied..]);
}

/// Whether a value ends here, so that the sign that follows joins two values.
fn ends_operand(code: &str) -> bool {
    let last = code.trim_end().chars().next_back();
    last.is_some_and(|c| c.is_alphanumeric() || matches!(c, '_' | '"' | '\'' | ')' | ']' | '}'))
}
