//! What of a `tokenizer.json` is looked at before the tokenizers library gets it: parts with which the library would run
//! out of memory or time, or fail at every text. Invariant: what passes makes a text longer by a bounded factor only.
//!
//! The library reads the rest and says what is wrong with it; where it panics, `guard` makes an error of that.

use crate::error::excerpt;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

/// A text may become so many times longer by all replacements together. Published tokenizers put three bytes for one.
const MAX_GROWTH: usize = 64;
/// Longest text that is put before or in place of others.
const MAX_INSERTED_BYTES: usize = 1024;
/// Longest text that a precompiled map puts in place of a character; the longest of Unicode takes 33 bytes.
const MAX_MAPPED_BYTES: usize = 256;
/// Most characters that a decoder strips off a token's end, one by one.
const MAX_STRIPPED: u64 = 4096;

/// All that a file may hold; the vocabulary is passed over. With another key, the library stops at what it takes for a
/// missing comma.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parts {
    #[serde(default, rename = "version")]
    _version: IgnoredAny,
    #[serde(default, rename = "truncation")]
    _truncation: IgnoredAny,
    #[serde(default, rename = "padding")]
    _padding: IgnoredAny,
    #[serde(default, rename = "added_tokens")]
    _added_tokens: IgnoredAny,
    #[serde(default, rename = "post_processor")]
    _post_processor: IgnoredAny,
    #[serde(default, rename = "model")]
    _model: IgnoredAny,
    #[serde(default)]
    normalizer: Value,
    #[serde(default)]
    pre_tokenizer: Value,
    #[serde(default)]
    decoder: Value,
}

/// Refuses what the library should not get. A file that is not JSON is left to the library, which says where.
pub(crate) fn check(bytes: &[u8]) -> Result<(), String> {
    let parts = match serde_json::from_slice::<Parts>(bytes) {
        Ok(parts) => parts,
        Err(_) if serde_json::from_slice::<IgnoredAny>(bytes).is_err() => return Ok(()),
        Err(error) => {
            // A key may have any length; where it stands is said first.
            let (line, column, problem) = (error.line(), error.column(), excerpt(&error.to_string()));
            return Err(format!("line {line}, column {column}: {problem}"));
        }
    };
    for (name, part) in
        [("normalizer", &parts.normalizer), ("pre_tokenizer", &parts.pre_tokenizer), ("decoder", &parts.decoder)]
    {
        let mut growth = 1usize;
        check_part(part, &mut growth).map_err(|problem| format!("its {name} {problem}"))?;
        if growth > MAX_GROWTH {
            return Err(format!("its {name} makes a text up to {growth} times as long, more than {MAX_GROWTH} times"));
        }
    }
    Ok(())
}

/// One part and those in it.
fn check_part(part: &Value, growth: &mut usize) -> Result<(), String> {
    match part {
        Value::Array(parts) => parts.iter().try_for_each(|part| check_part(part, growth)),
        Value::Object(fields) => {
            // By their keys: the library takes some without a type, too.
            if fields.get("length").is_some_and(|length| length.as_u64() == Some(0)) {
                return Err("cuts texts into pieces of length 0".to_string());
            }
            if fields.contains_key("pattern") && fields.contains_key("content") {
                *growth = growth.saturating_mul(replacement_growth(part)?);
            }
            inserted(&part["prepend"])?;
            if ["start", "stop"].iter().any(|key| part[*key].as_u64() > Some(MAX_STRIPPED)) {
                return Err(format!("strips more than {MAX_STRIPPED} characters"));
            }
            if let Some(map) = fields.get("precompiled_charsmap") {
                check_map(map.as_str().unwrap_or_default())?;
            }
            fields.values().try_for_each(|field| check_part(field, growth))
        }
        _ => Ok(()),
    }
}

fn inserted(text: &Value) -> Result<(), String> {
    match text.as_str().unwrap_or_default().len() {
        length if length > MAX_INSERTED_BYTES => {
            Err(format!("inserts a text of {length} bytes, more than {MAX_INSERTED_BYTES}"))
        }
        _ => Ok(()),
    }
}

/// How many times longer a replacement can make a text.
fn replacement_growth(part: &Value) -> Result<usize, String> {
    inserted(&part["content"])?;
    let content = part["content"].as_str().unwrap_or_default().len();
    let empty = || "replaces matches without a character, which would be everywhere".to_string();
    let shortest = match (&part["pattern"]["String"], &part["pattern"]["Regex"]) {
        (Value::String(text), _) if text.is_empty() => return Err(empty()),
        (Value::String(text), _) => text.len(),
        (_, Value::String(regex)) => {
            if matches_nothing(regex) {
                return Err(empty());
            }
            1
        }
        // The library says what is wrong with it.
        _ => return Ok(1),
    };
    Ok(content.div_ceil(shortest).max(1))
}

/// Whether a pattern matches an empty part of some text. One that is no pattern does not.
fn matches_nothing(regex: &str) -> bool {
    let Ok(regex) = tokenizers::utils::SysRegex::new(regex) else { return false };
    let probes = ["", "a", " ", "A1 b-c_d.\n\té日", "\u{2581}the  end\r\n"];
    probes.iter().any(|probe| regex.find_iter(probe).any(|(start, end)| start == end))
}

/// sentencepiece's map: the size of a trie, the trie, then texts that each end in a zero byte.
fn check_map(base64: &str) -> Result<(), String> {
    let bytes = decode_base64(base64).ok_or("has a precompiled map that is not base64")?;
    let size = bytes.first_chunk::<4>().map_or(0, |size| u32::from_le_bytes(*size) as usize);
    // The library makes room for as much as the map claims.
    let texts = bytes.get(4..).and_then(|rest| rest.get(size..));
    let texts = texts.ok_or("has a precompiled map that is shorter than it says")?;
    match texts.split(|&byte| byte == 0).map(<[u8]>::len).max() {
        Some(longest) if longest > MAX_MAPPED_BYTES => {
            Err(format!("has a precompiled map with a text of {longest} bytes, more than {MAX_MAPPED_BYTES}"))
        }
        _ => Ok(()),
    }
}

/// Standard base64; `None` for anything else.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(digits.len() / 4 * 3 + 3);
    let (mut bits, mut count) = (0u32, 0);
    for digit in digits.bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::check;

    fn part(kind: &str, json: &str) -> Result<(), String> {
        check(format!("{{\"model\": {{\"vocab\": {{}}}}, \"{kind}\": {json}}}").as_bytes())
    }

    #[test]
    fn parts_that_would_never_end_are_refused() {
        let refuse = |kind: &str, json: &str, problem: &str| {
            let error = part(kind, json).unwrap_err();
            assert!(error.contains(problem), "{json}: {error}");
        };
        refuse("pre_tokenizer", r#"{"type": "FixedLength", "length": 0}"#, "pieces of length 0");
        refuse(
            "pre_tokenizer",
            r#"{"type": "Sequence", "pretokenizers": [{"type": "FixedLength", "length": 0}]}"#,
            "its pre_tokenizer cuts",
        );
        for pattern in [
            r#"{"String": ""}"#,
            r#"{"Regex": ""}"#,
            r#"{"Regex": "a*"}"#,
            r#"{"Regex": "\\b"}"#,
            r#"{"Regex": "(?=a)"}"#,
        ] {
            let json = format!(r#"{{"type": "Replace", "pattern": {pattern}, "content": "x"}}"#);
            refuse("normalizer", &json, "would be everywhere");
            refuse("decoder", &format!(r#"{{"type": "Sequence", "decoders": [{json}]}}"#), "would be everywhere");
        }
        let double = r#"{"type": "Replace", "pattern": {"String": "a"}, "content": "aa"}"#;
        let many = vec![double; 40].join(",");
        refuse("normalizer", &format!(r#"{{"type": "Sequence", "normalizers": [{many}]}}"#), "times as long");
        let long = "x".repeat(2000);
        refuse("normalizer", &format!(r#"{{"type": "Prepend", "prepend": "{long}"}}"#), "2000 bytes");
        refuse("decoder", r#"{"type": "Strip", "content": "a", "start": 0, "stop": 99999}"#, "strips more");
        for map in ["AAAA", "////f2Fi", "!"] {
            let json = format!(r#"{{"type": "Precompiled", "precompiled_charsmap": "{map}"}}"#);
            refuse("normalizer", &json, "precompiled map");
        }
    }

    #[test]
    fn parts_that_published_tokenizers_have_pass() {
        for (kind, json) in [
            ("normalizer", r#"{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}"#),
            ("normalizer", r#"{"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": "▁"}"#),
            ("normalizer", r#"{"type": "Precompiled", "precompiled_charsmap": "BAAAAAAAAABhYgA="}"#),
            ("normalizer", "null"),
            (
                "pre_tokenizer",
                r#"{"type": "Split", "pattern": {"Regex": "(?=a)"}, "behavior": "Isolated", "invert": false}"#,
            ),
            ("pre_tokenizer", r#"{"type": "FixedLength", "length": 5}"#),
            ("decoder", r#"{"type": "Strip", "content": " ", "start": 1, "stop": 0}"#),
        ] {
            assert_eq!(part(kind, json), Ok(()), "{json}");
        }
        assert_eq!(check(b"{\"normalizer\": {"), Ok(()), "the library says better where a file is cut");
        assert!(check(b"{\"normalizer\": null, \"normalizer\": {}}").unwrap_err().contains("duplicate"));
        let long = "k".repeat(1 << 20);
        for key in ["notes", "Model", "", &long] {
            let error = check(format!("{{\"model\": {{}},\n  \"{key}\": 1}}").as_bytes()).unwrap_err();
            let named: String = key.chars().take(100).collect();
            assert!(
                error.starts_with("line 2, column") && error.contains(&format!("unknown field `{named}")),
                "{error}"
            );
            assert!(error.len() < 300, "{error}");
        }
    }
}
