//! How a byte-level tokenizer cuts a text into words, by the name that llama.cpp has for it.
//!
//! llama.cpp has the cuts wired in, each under the name of a model that used it first (`llama-vocab.cpp`); whether whole words
//! that are tokens skip the merges hangs on the name, too. Invariant: a name is given only to a pre-tokenizer that has the
//! very same patterns in the very same order; anything else is refused with what it has.

use super::tokenizer_json::{kind_of, steps};
use crate::error::excerpt;
use serde_json::Value;

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"|\s+(?!\S)|\s+"
);
const QWEN2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+",
    r"|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// What cuts a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Cut {
    Pattern(&'static str),
    /// Each digit by itself.
    Digits,
}

/// Cuts in order, whether words that are tokens skip the merges, and the name.
const NAMES: [(&[Cut], bool, &str); 7] = [
    (&[Cut::Pattern(GPT2)], false, "gpt-2"),
    (&[Cut::Digits, Cut::Pattern(GPT2)], false, "smollm"),
    (&[Cut::Pattern(LLAMA3)], true, "llama-bpe"),
    // The same cuts as Llama 3's, with merges.
    (&[Cut::Pattern(LLAMA3)], false, "dbrx"),
    (&[Cut::Pattern(QWEN2)], false, "qwen2"),
    (&[Cut::Pattern(TEKKEN)], true, "tekken"),
    (&[Cut::Pattern(GPT4O)], false, "gpt-4o"),
];

/// llama.cpp's name of a byte-level pre-tokenizer.
pub(super) fn name(pre_tokenizer: &Value, ignore_merges: bool) -> Result<&'static str, String> {
    let mut cuts = Vec::new();
    for step in steps(pre_tokenizer, "pretokenizers") {
        match step["type"].as_str() {
            Some("ByteLevel") => {
                if step["add_prefix_space"].as_bool().unwrap_or(true) {
                    return Err("add_prefix_space is true, which llama.cpp does not do".to_string());
                }
                if step["use_regex"].as_bool().unwrap_or(true) {
                    cuts.push(Cut::Pattern(GPT2));
                }
            }
            Some("Digits") if step["individual_digits"] == true => cuts.push(Cut::Digits),
            Some("Split") => cuts.push(split(step)?),
            _ => return Err(format!("has a {} step, which llama.cpp has none of", kind_of(step))),
        }
    }
    let known = NAMES.iter().find(|(of, ignores, _)| *of == cuts && *ignores == ignore_merges);
    known.map(|(.., name)| *name).ok_or_else(|| match NAMES.iter().any(|(of, ..)| *of == cuts) {
        true => format!("llama.cpp knows its patterns, but not with ignore_merges = {ignore_merges}"),
        false => "its patterns in this order are none that llama.cpp knows".to_string(),
    })
}

/// A cut by a pattern that is known.
fn split(step: &Value) -> Result<Cut, String> {
    let pattern = step["pattern"]["Regex"].as_str().unwrap_or_default();
    if step["behavior"] != "Isolated" || step["invert"] == true {
        return Err("has a Split step that does not keep its matches as words, which llama.cpp has none of".to_string());
    }
    let known = [GPT2, LLAMA3, QWEN2, TEKKEN, GPT4O].into_iter().find(|known| *known == pattern);
    match known {
        Some(known) => Ok(Cut::Pattern(known)),
        None if pattern == r"\p{N}" || pattern == r"\d" => Ok(Cut::Digits),
        None => Err(format!("has the pattern {:?}, which llama.cpp does not know", excerpt(pattern))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn byte_level(use_regex: bool) -> Value {
        json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
    }

    fn split_by(pattern: &str) -> Value {
        json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
    }

    fn sequence(steps: &[Value]) -> Value {
        json!({"type": "Sequence", "pretokenizers": steps})
    }

    #[test]
    fn published_tokenizers_have_their_names() {
        let digits = json!({"type": "Digits", "individual_digits": true});
        let cases = [
            (byte_level(true), false, "gpt-2"),
            (sequence(&[digits, byte_level(true)]), false, "smollm"),
            (sequence(&[split_by(LLAMA3), byte_level(false)]), true, "llama-bpe"),
            (sequence(&[split_by(LLAMA3), byte_level(false)]), false, "dbrx"),
            (sequence(&[split_by(QWEN2), byte_level(false)]), false, "qwen2"),
            (sequence(&[split_by(TEKKEN), byte_level(false)]), true, "tekken"),
            (sequence(&[split_by(GPT4O), byte_level(false)]), false, "gpt-4o"),
        ];
        for (pre_tokenizer, ignores, expected) in cases {
            assert_eq!(name(&pre_tokenizer, ignores), Ok(expected));
        }
    }

    #[test]
    fn what_is_not_known_is_named() {
        let refused = |pre_tokenizer: &Value, ignores| name(pre_tokenizer, ignores).expect_err("refused");
        let prefixed = json!({"type": "ByteLevel", "add_prefix_space": true, "use_regex": true});
        assert!(refused(&prefixed, false).contains("add_prefix_space"));
        assert!(refused(&sequence(&[split_by("[a-z]+"), byte_level(false)]), false).contains("\"[a-z]+\""));
        assert!(refused(&sequence(&[split_by(QWEN2), byte_level(true)]), false).contains("in this order"));
        assert!(refused(&sequence(&[split_by(QWEN2), byte_level(false)]), true).contains("ignore_merges = true"));
        assert!(refused(&json!({"type": "Whitespace"}), false).contains("a Whitespace step"));
    }
}
