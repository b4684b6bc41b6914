//! Texts become ids, long texts piece by piece: a library call takes some 80 bytes for each byte of its text. Invariant:
//! the ids are those of the whole text at once.
//!
//! A long text is covered by windows that overlap. Where two windows give the same tokens at the same places, what is
//! further away has no say in them: the first is left and the second entered there. Windows that do not agree are made
//! larger, up to the whole text. A window starts where the one before it has the start of a token, so that what is
//! counted from the start of a long word (runs of one letter) agrees, too. What the start of a text adds (a space before
//! the first word) and its end (a suffix) stay in the first and the last window, because the outer parts of the overlap
//! are looked at by nobody. O(length), memory O(window).
//!
//! Look next at `tokenizer`, whose file says what the library does.

use crate::Tokenizer;
use crate::guard::guarded;
use crate::tokenizer::LIBRARY;
use std::ops::Range;
use tokenizers::{Encoding, Model, OffsetReferential, OffsetType, PostProcessor, PreTokenizedString, PreTokenizer};

/// Texts up to this size are one call.
const WINDOW_BYTES: usize = 64 << 10;
/// What two windows share, as a part of a window: a sixteenth.
const OVERLAP_PART: usize = 16;
/// Tokens that both windows must have in the middle half of what they share.
const LEAST_SHARED: usize = 8;

/// The tokens of a text and where each stands in it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Tokens {
    /// An id and the bytes of the text it stands for, in order.
    pub tokens: Vec<(u32, Range<usize>)>,
    /// The first character that the tokenizer passes over although it is not white space: it has no token for it. With
    /// the byte near which it stands.
    pub without_token: Option<(char, usize)>,
}

impl Tokenizer {
    /// Ids of a text; with `add_special`, the special tokens that the tokenizer puts around a text, too. Special tokens
    /// spelled out in the text become their ids either way.
    ///
    /// # Errors
    /// The library's message, for a text its model has no tokens for.
    pub fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        if text.len() <= WINDOW_BYTES {
            return self.encode_at_once(text, add_special);
        }
        let mut ids = Vec::with_capacity(text.len() / 4);
        self.each_id(text, add_special, &mut |id| ids.push(id))?;
        Ok(ids)
    }

    /// Ids of a text that is to be continued, with the special tokens around it, but without a second opening one where the
    /// text itself begins with it, as one that was rendered by a chat template does.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_prompt(&self, text: &str) -> Result<Vec<u32>, String> {
        let mut ids = self.encode(text, true)?;
        if matches!(ids[..], [first, second, ..] if first == second) {
            let plain = self.encode(text, false)?;
            if ids.len() > plain.len() && ids[1..].starts_with(&plain) {
                ids.remove(0);
            }
        }
        Ok(ids)
    }

    /// Gives the ids of [`encode`](Self::encode) one by one, so that those of a long text need not be held.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn each_id(&self, text: &str, add_special: bool, give: &mut dyn FnMut(u32)) -> Result<(), String> {
        if text.len() <= WINDOW_BYTES {
            self.encode_at_once(text, add_special)?.into_iter().for_each(give);
            return Ok(());
        }
        let (before, after) = if add_special { self.around()? } else { (Vec::new(), Vec::new()) };
        before.into_iter().for_each(&mut *give);
        self.in_windows(text, WINDOW_BYTES, &mut |id, _| give(id))?;
        after.into_iter().for_each(give);
        Ok(())
    }

    /// Tokens of a text without any around it, each with the bytes of the text that it stands for. Where the tokenizer
    /// writes a text otherwise (composed, in lower case), these are the bytes that it was written from.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_spans(&self, text: &str) -> Result<Tokens, String> {
        let mut tokens = Vec::with_capacity(text.len() / 4);
        let without_token = self.in_windows(text, WINDOW_BYTES, &mut |id, span| tokens.push((id, span)))?;
        Ok(Tokens { tokens, without_token })
    }

    fn encode_at_once(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        let ids = guarded(LIBRARY, || {
            let encoding = self.inner.encode_fast(text, false)?;
            match &self.post_processor {
                Some(post_processor) => post_processor.process(encoding, None, add_special),
                None => Ok(encoding),
            }
        });
        ids.map(|encoding| encoding.get_ids().to_vec())
    }

    /// The special tokens that the tokenizer puts before and behind a text, whatever the text.
    fn around(&self) -> Result<(Vec<u32>, Vec<u32>), String> {
        let (alone, within) = (self.encode_at_once("a", false)?, self.encode_at_once("a", true)?);
        let places = 0..=within.len().saturating_sub(alone.len());
        match places.into_iter().find(|&at| within[at..].starts_with(&alone)) {
            Some(at) => Ok((within[..at].to_vec(), within[at + alone.len()..].to_vec())),
            None => Err("its post-processor changes the tokens of a text; such texts must be shorter".to_string()),
        }
    }

    /// Gives every token of a text to `sink`, from windows of about `window` bytes.
    pub(crate) fn in_windows(
        &self,
        text: &str,
        window: usize,
        sink: &mut dyn FnMut(u32, Range<usize>),
    ) -> Result<Option<(char, usize)>, String> {
        let mut without_token = None;
        // Tokens of the current window that start at `given_to` or behind are not given yet.
        let (mut start, mut size, mut given_to) = (0, window, 0);
        let mut current = self.window(text, start, size, &mut without_token)?;
        while start + size < text.len() {
            let overlap = size / OVERLAP_PART;
            let entry = current.start_near(text, start + size - overlap);
            let entered = match entry {
                Some(entry) if entry > start => {
                    let following = self.window(text, entry, window, &mut without_token)?;
                    let end = floor(text, start + size);
                    current.agree(&following, entry + overlap / 4..end - overlap / 4).map(|at| (entry, following, at))
                }
                _ => None,
            };
            let Some((entry, following, leave)) = entered else {
                // They differ: what is far away matters here, so the window has to be larger.
                size = size.saturating_mul(2);
                current = self.window(text, start, size, &mut without_token)?;
                continue;
            };
            current.give(given_to..leave, sink);
            (current, start, size, given_to) = (following, entry, window, leave);
        }
        current.give(given_to..usize::MAX, sink);
        Ok(without_token)
    }

    /// The tokens of a part of a text, with their places in the whole.
    fn window(
        &self,
        text: &str,
        start: usize,
        size: usize,
        without_token: &mut Option<(char, usize)>,
    ) -> Result<Window, String> {
        let part = &text[start..floor(text, start.saturating_add(size))];
        let (encoding, missing) = guarded(LIBRARY, || self.encode_checked(part))?;
        if without_token.is_none() {
            *without_token = missing.map(|(c, at)| (c, start + at));
        }
        let spans = encoding.get_offsets().iter().map(|&(from, to)| start + from..start + to);
        Ok(Window(encoding.get_ids().iter().copied().zip(spans).collect()))
    }

    /// The library's own steps of an encoding, with a look at what its model makes of each word: a model without a token
    /// for a character may leave it out.
    fn encode_checked(&self, text: &str) -> tokenizers::Result<(Encoding, Option<(char, usize)>)> {
        let mut words = self.inner.get_added_vocabulary().extract_and_normalize(self.inner.get_normalizer(), text);
        if let Some(pre_tokenizer) = self.inner.get_pre_tokenizer() {
            pre_tokenizer.pre_tokenize(&mut words)?;
        }
        self.inner.get_model().tokenize_in_pretokenized(&mut words, None)?;
        let missing = self.without_token(&words);
        Ok((words.into_encoding(None, 0, OffsetType::Byte)?, missing))
    }

    fn without_token(&self, words: &PreTokenizedString) -> Option<(char, usize)> {
        for (word, offsets, tokens) in words.get_splits(OffsetReferential::Original, OffsetType::Byte) {
            let mut end = 0;
            let mut gap = None;
            for token in tokens.iter().flatten() {
                gap = gap.or_else(|| word.get(end..token.offsets.0).filter(|gap| !gap.is_empty()));
                end = end.max(token.offsets.1);
            }
            let Some(gap) = gap.or_else(|| word.get(end..).filter(|gap| !gap.is_empty())) else { continue };
            // A character left out moves the places of those behind it: the gap may show up later than it is.
            let left_out =
                |c: &char| self.inner.get_model().tokenize(c.encode_utf8(&mut [0; 4])).is_ok_and(|t| t.is_empty());
            let c = word.chars().find(left_out).or_else(|| gap.chars().next());
            if let Some(c) = c.filter(|c| !c.is_whitespace()) {
                return Some((c, offsets.0));
            }
        }
        None
    }
}

/// The last character boundary up to `at`.
fn floor(text: &str, at: usize) -> usize {
    text.floor_char_boundary(at.min(text.len()))
}

/// The tokens of a window.
struct Window(Vec<(u32, Range<usize>)>);

impl Window {
    /// The last place up to `at` where a token starts, no token reaches over, and a character starts.
    fn start_near(&self, text: &str, at: usize) -> Option<usize> {
        let end = self.0.partition_point(|(_, span)| span.start <= at);
        let starts = |&index: &usize| {
            let start = self.0[index].1.start;
            text.is_char_boundary(start) && (index == 0 || self.0[index - 1].1.end <= start)
        };
        (1..end).rev().find(starts).map(|index| self.0[index].1.start)
    }

    /// The tokens that start in a range of the text.
    fn starting_in(&self, range: Range<usize>) -> &[(u32, Range<usize>)] {
        let from = self.0.partition_point(|(_, span)| span.start < range.start);
        let to = self.0.partition_point(|(_, span)| span.start < range.end);
        &self.0[from..to.max(from)]
    }

    fn give(&self, range: Range<usize>, sink: &mut dyn FnMut(u32, Range<usize>)) {
        self.starting_in(range).iter().for_each(|(id, span)| sink(*id, span.clone()));
    }

    /// Where to leave this window for the other: at the first token in `within`, if all tokens there are the same.
    fn agree(&self, other: &Window, within: Range<usize>) -> Option<usize> {
        let (own, others) = (self.starting_in(within.clone()), other.starting_in(within));
        (own.len() >= LEAST_SHARED && own == others).then(|| own[0].1.start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::{Path, PathBuf};

    /// Every tokenizer among the fixtures.
    fn tokenizers() -> Vec<(PathBuf, Tokenizer)> {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures");
        let folders = ["parity/llama-gqa-tied", "parity/gpt2", "tokenizers"].map(|name| fixtures.join(name));
        let mut files: Vec<PathBuf> =
            folders.iter().flat_map(std::fs::read_dir).flatten().flatten().map(|e| e.path()).collect();
        files.sort();
        files.retain(|file| file.to_string_lossy().ends_with("tokenizer.json"));
        files.into_iter().map(|file| (file.clone(), Tokenizer::from_file(&file).expect("a tokenizer"))).collect()
    }

    /// Texts that could be cut in the wrong place.
    fn texts() -> Vec<String> {
        let mut seed = 1_u64;
        let mut draw = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let pieces = [
            "the tide ",
            "a",
            " ",
            "  ",
            "\n",
            "\n\n",
            "harbour",
            ", ",
            "12345",
            "'s ",
            "e\u{301}",
            "\u{1112}\u{1161}\u{11ab}",
            "ö",
            "<s>",
            "</s>",
            " <s> ",
            "!!!",
            "\t",
            "Ä",
            "THE ",
            "▁",
            "日本",
            "😀",
        ];
        let mut mixed =
            |count: usize| (0..count).map(|_| pieces[draw(pieces.len() as u64) as usize]).collect::<String>();
        let mut texts: Vec<String> = (0..12).map(|_| mixed(1500)).collect();
        texts.extend([
            " ".repeat(5000),
            "a".repeat(5000),
            "\n".repeat(5000),
            "ab ".repeat(2000),
            "e\u{301}".repeat(2000),
        ]);
        texts.push(format!("{} {}", "a".repeat(3000), "the tide ".repeat(300)));
        texts
    }

    #[test]
    fn windows_give_the_tokens_of_the_whole() {
        let all = tokenizers();
        assert!(all.len() >= 2, "{} tokenizers", all.len());
        for (file, tokenizer) in &all {
            for text in texts() {
                let collect = |window| {
                    let mut tokens = Vec::new();
                    tokenizer.in_windows(&text, window, &mut |id, span| tokens.push((id, span))).expect("encodes");
                    tokens
                };
                let whole = collect(usize::MAX / 4);
                let ids: Vec<u32> = whole.iter().map(|(id, _)| *id).collect();
                assert_eq!(ids, tokenizer.encode_at_once(&text, false).expect("encodes"), "{}", file.display());
                for window in [400, 1000, 1777] {
                    let start: String = text.chars().take(40).collect();
                    assert!(collect(window) == whole, "{}: windows of {window}: {start:?}", file.display());
                }
            }
        }
    }

    #[test]
    fn a_long_text_gets_what_is_put_around_a_short_one() {
        for (file, tokenizer) in tokenizers() {
            let text = "the tide takes it back, ".repeat(WINDOW_BYTES / 20);
            let at_once = tokenizer.encode_at_once(&text, true).expect("encodes");
            assert!(tokenizer.encode(&text, true).expect("encodes") == at_once, "{}", file.display());
        }
    }

    #[test]
    fn a_prompt_opens_once() {
        let (_, tokenizer) =
            tokenizers().into_iter().find(|(file, _)| file.ends_with("byte_level.tokenizer.json")).expect("it");
        let bos = tokenizer.token_to_id("<s>").expect("it opens texts");
        for (prompt, opening) in [("the", 1), ("<s>the", 1), ("<s><s>the", 2), ("", 1), ("<s>", 1)] {
            let ids = tokenizer.encode_prompt(prompt).expect("encodes");
            assert_eq!(ids.iter().take_while(|id| **id == bos).count(), opening, "{prompt}");
        }
    }
}
