//! Text inside markup. Invariant: what comes out can neither end an element or attribute nor start one, and is short enough
//! to be looked at.

/// A name from a file may have any length.
const MOST_CHARS: usize = 2000;

/// The text for an element or a quoted attribute; control characters, which XML forbids, become U+FFFD.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for (index, c) in text.chars().enumerate() {
        if index == MOST_CHARS {
            out.push('…');
            break;
        }
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(' '),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            // These turn the reading direction of what follows.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// A coordinate with two digits behind the point.
pub(crate) fn at(x: f64) -> String {
    let text = format!("{x:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_markup_reads_gets_through() {
        assert_eq!(
            escaped("</title><script>a('\"&\u{0}\u{202e}"),
            "&lt;/title&gt;&lt;script&gt;a(&#39;&quot;&amp;\u{fffd}\u{fffd}"
        );
        assert_eq!(escaped("a\nb"), "a b");
        assert_eq!(escaped(&"<".repeat(5000)), "&lt;".repeat(MOST_CHARS) + "…");
        assert_eq!((at(1.0), at(0.126), at(-20.5)), ("1".to_string(), "0.13".to_string(), "-20.5".to_string()));
    }
}
