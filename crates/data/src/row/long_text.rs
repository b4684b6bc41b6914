//! Texts of a row that are megabytes long, out of their JSON without a second copy: a text is never longer than its JSON, so
//! it is decoded where it stands, piece by piece. Invariant: no piece ends within an escape, a pair of surrogates or a
//! character, so the pieces' texts are the whole's. O(length), and memory for one piece.

use std::ops::Range;

/// Shorter JSON is decoded as a whole.
pub(super) const LONG_BYTES: usize = 1 << 20;
const PIECE_BYTES: usize = 1 << 16;

/// The text of what stands between the quotes, in `within` of the bytes of a line.
///
/// Panics if it is no text in JSON: [`check`] has seen it.
pub(super) fn decoded(mut line: Vec<u8>, within: Range<usize>) -> String {
    let (mut start, mut written) = (within.start, 0);
    while start < within.end {
        let end = start + piece(&line[start..within.end]);
        let text = decoded_piece(&line[start..end]).expect("it was checked");
        line[written..written + text.len()].copy_from_slice(text.as_bytes());
        written += text.len();
        start = end;
    }
    line.truncate(written);
    String::from_utf8(line).expect("texts side by side")
}

/// Whether it is a text in JSON; else the byte of it that the parser's error counts from, and the error.
pub(super) fn check(json: &str) -> Result<(), (usize, serde_json::Error)> {
    let (bytes, mut start) = (json.as_bytes(), 0);
    while start < bytes.len() {
        let end = start + piece(&bytes[start..]);
        decoded_piece(&bytes[start..end]).map_err(|error| (start, error))?;
        start = end;
    }
    Ok(())
}

fn decoded_piece(json: &[u8]) -> Result<String, serde_json::Error> {
    serde_json::from_slice(&[b"\"", json, b"\""].concat())
}

/// How long the next piece is.
fn piece(json: &[u8]) -> usize {
    let mut at = 0;
    while at < json.len().min(PIECE_BYTES) {
        at += match (json[at], json.get(at + 1), json.get(at + 2), json.get(at + 3)) {
            // A high surrogate belongs to what follows.
            (b'\\', Some(b'u'), Some(b'd' | b'D'), Some(b'8' | b'9' | b'a' | b'b' | b'A' | b'B')) => 12,
            (b'\\', Some(b'u'), ..) => 6,
            (b'\\', ..) => 2,
            _ => 1,
        };
    }
    while json.get(at).is_some_and(|byte| byte & 0xc0 == 0x80) {
        at += 1;
    }
    at.min(json.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_make_the_whole() {
        let escapes =
            [r"a", r"\n", r"é", r"\\", r"\u00e9", r"\ud83d\ude00", "日本", r#"\""#, r"\uD83D\uDE00", "\u{1f600}"];
        let mut seed = 7_usize;
        for length in [0, 1, 20_000, 60_000] {
            let pieces = (0..length).map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                escapes[(seed >> 33) % escapes.len()]
            });
            let json: String = pieces.collect();
            let whole: String = serde_json::from_str(&format!("\"{json}\"")).expect("a text");
            check(&json).expect("a text");
            let line = format!("{{\"text\": \"{json}\"}}").into_bytes();
            assert!(decoded(line, 10..10 + json.len()) == whole, "{length}");
        }
    }

    #[test]
    fn what_is_no_text_is_found_where_it_is() {
        for bad in [r"\ud83d", r"\ude00", r"\ud83dx", r"\ud83d\n"] {
            let json = format!("{}{bad}{}", "a".repeat(100_000), "b".repeat(100_000));
            let (start, error) = check(&json).expect_err("no text");
            let at = start + error.column();
            assert!((100_000..100_020).contains(&at), "{bad:?} at {at}");
        }
    }
}
