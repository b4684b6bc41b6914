//! A tokenizer and its chat template as a GGUF file holds them.
//!
//! Two kinds of tokenizers are expressed: byte-level ones (`gpt2` in llama.cpp, with merges and the name of a pre-tokenizer) and
//! those that came from SentencePiece (`llama`, with a score for each token). Invariant: a setting of `tokenizer.json` that
//! changes what a text is encoded to is written, told in `notes` where llama.cpp differs in a detail, or refused by name.

use super::pre_tokenizer;
use super::scores::scores;
use super::tokenizer_json::{AddedToken, Merge, TokenizerJson, kind_of, steps};
use super::write::GgufEntry;
use crate::error::excerpt;
use crate::{FormatsError, Tokenizer};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;

const FILE: &str = "tokenizer.json";
/// What stands for a space in SentencePiece's tokens.
const SPACE: &str = "\u{2581}";

/// llama.cpp's kinds of tokens.
const NORMAL: i32 = 1;
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const USER_DEFINED: i32 = 4;
const UNUSED: i32 = 5;
const BYTE: i32 = 6;

/// What a vocabulary is read for.
#[derive(Debug, Clone, Copy)]
pub struct VocabularyOf<'a> {
    /// The folder with `tokenizer.json` and what lies beside it.
    pub folder: &'a Path,
    /// Rows of the model's embedding.
    pub vocab_size: usize,
    /// Ids that begin a sequence, by the configuration.
    pub bos: &'a [u32],
    /// Ids that end a text, by the configuration and the settings of generation.
    pub eos: &'a [u32],
}

/// The entries that describe a tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct GgufVocabulary {
    /// Keys and values.
    pub entries: Vec<(String, GgufEntry)>,
    /// Where llama.cpp will encode otherwise than the tokenizer, for people.
    pub notes: Vec<String>,
}

/// Tokens by id.
struct Tokens {
    texts: Vec<String>,
    kinds: Vec<i32>,
}

impl GgufVocabulary {
    /// Reads the tokenizer of a folder.
    ///
    /// # Errors
    /// Files that are missing or malformed, more tokens than the model has rows, a tokenizer that llama.cpp cannot be told of.
    pub fn read(of: &VocabularyOf<'_>) -> Result<Self, FormatsError> {
        let path = of.folder.join(FILE);
        let tokenizer = Tokenizer::from_dir(of.folder)?;
        if tokenizer.id_limit() as usize > of.vocab_size {
            let problem = format!(
                "has ids up to {}, and the model {} of them: they do not belong together",
                tokenizer.id_limit() - 1,
                of.vocab_size
            );
            return Err(FormatsError::malformed(&path, problem));
        }
        let file = TokenizerJson::read(&path)?;
        let mut vocabulary = GgufVocabulary { entries: Vec::new(), notes: Vec::new() };
        let refused = |problem: String| {
            FormatsError::malformed(&path, format!("cannot be expressed in GGUF: {problem}; use the model elsewhere"))
        };
        match file.model.byte_fallback {
            Some(true) => vocabulary.add_pieces(&file, of.vocab_size),
            _ => vocabulary.add_byte_level(&file, of.vocab_size),
        }
        .and_then(|()| vocabulary.add_special(&file, &tokenizer, of))
        .map_err(refused)?;
        let padded: Vec<&AddedToken> =
            file.added_tokens.iter().filter(|token| token.lstrip || token.rstrip || token.single_word).collect();
        if let Some(token) = padded.first() {
            let (count, example) = (padded.len(), excerpt(&token.content));
            vocabulary.notes.push(format!(
                "{count} added tokens, such as {example:?}, take up spaces beside them or match whole words only, which \
                 llama.cpp does not do"
            ));
        }
        vocabulary.add_templates(&tokenizer);
        Ok(vocabulary)
    }

    fn add(&mut self, key: &str, entry: GgufEntry) {
        self.entries.push((format!("tokenizer.{key}"), entry));
    }

    /// A byte-level tokenizer: merges, and the name of what cuts a text into words.
    fn add_byte_level(&mut self, file: &TokenizerJson, size: usize) -> Result<(), String> {
        if !steps(&file.pre_tokenizer, "pretokenizers").iter().any(|step| step["type"] == "ByteLevel") {
            let kind = kind_of(&file.pre_tokenizer);
            return Err(format!("its pre_tokenizer ({kind}) has no ByteLevel step, and its model no byte_fallback"));
        }
        for step in steps(&file.normalizer, "normalizers") {
            match step["type"].as_str() {
                Some("NFC") => self.notes.push(
                    "llama.cpp does not compose characters before it encodes, as this tokenizer does (NFC): give it \
                     composed text, which nearly all is"
                        .to_string(),
                ),
                _ => return Err(format!("its normalizer has a {} step, which llama.cpp has none of", kind_of(step))),
            }
        }
        let name = pre_tokenizer::name(&file.pre_tokenizer, file.model.ignore_merges == Some(true));
        let name = name.map_err(|problem| format!("its pre_tokenizer {problem}"))?;
        let Tokens { texts, kinds } = Tokens::of(file, size, &|_| NORMAL)?;
        let pair = |merge: &Merge| {
            let (a, b) = merge.pair().filter(|(a, b)| !a.contains(' ') && !b.contains(' '))?;
            Some(format!("{a} {b}"))
        };
        let merges: Option<Vec<String>> = file.model.merges.iter().map(pair).collect();
        let merges = merges.ok_or("a merge is not of two tokens without spaces")?;
        self.add("ggml.model", GgufEntry::Text("gpt2".to_string()));
        self.add("ggml.pre", GgufEntry::Text(name.to_string()));
        self.add("ggml.tokens", GgufEntry::Texts(texts));
        self.add("ggml.token_type", GgufEntry::Numbers(kinds));
        self.add("ggml.merges", GgufEntry::Texts(merges));
        Ok(())
    }

    /// A tokenizer that came from SentencePiece: a score for each token.
    fn add_pieces(&mut self, file: &TokenizerJson, size: usize) -> Result<(), String> {
        let space_prefix = self.space_prefix(file)?;
        let missing = (0..=u8::MAX).find(|&byte| !file.model.vocab.contains_key(&byte_token(byte)));
        if let Some(byte) = missing {
            return Err(format!("it has no token {}: llama.cpp needs one for each byte", byte_token(byte)));
        }
        let bytes: BTreeSet<String> = (0..=u8::MAX).map(byte_token).collect();
        let unknown = file.model.unk_token.as_deref();
        let kind = |token: &str| match token {
            token if bytes.contains(token) => BYTE,
            token if Some(token) == unknown => UNKNOWN,
            _ => NORMAL,
        };
        let Tokens { texts, kinds } = Tokens::of(file, size, &kind)?;
        let added = file.added_tokens.iter().map(|token| token.content.as_str());
        let aside: BTreeSet<&str> = bytes.iter().map(String::as_str).chain(added).chain(unknown).collect();
        let by_id: HashMap<u32, f32> = scores(&file.model.vocab, &file.model.merges, &aside)?;
        let scores = kinds.iter().zip(0_u32..).map(|(kind, id)| match *kind {
            NORMAL => by_id.get(&id).copied().unwrap_or(0.0),
            _ => 0.0,
        });
        let scores = scores.collect();
        self.add("ggml.model", GgufEntry::Text("llama".to_string()));
        self.add("ggml.pre", GgufEntry::Text("default".to_string()));
        self.add("ggml.tokens", GgufEntry::Texts(texts));
        self.add("ggml.scores", GgufEntry::Floats(scores));
        self.add("ggml.token_type", GgufEntry::Numbers(kinds));
        self.add("ggml.add_space_prefix", GgufEntry::Flag(space_prefix));
        Ok(())
    }

    /// Whether a space is put before a text, of a tokenizer whose model sees the text as one word.
    fn space_prefix(&mut self, file: &TokenizerJson) -> Result<bool, String> {
        let normalizer = steps(&file.normalizer, "normalizers");
        let is_replace = |step: &Value| step["pattern"]["String"] == " " && step["content"] == SPACE;
        let is_prepend = |step: &Value| step["type"] == "Prepend" && step["prepend"] == SPACE;
        match (&normalizer[..], &file.pre_tokenizer) {
            ([prepend, replace], Value::Null) if is_prepend(prepend) && is_replace(replace) => Ok(true),
            ([replace], Value::Null) if is_replace(replace) => Ok(false),
            ([], metaspace) if metaspace["type"] == "Metaspace" && metaspace["replacement"] == SPACE => {
                if metaspace["split"].as_bool().unwrap_or(true) {
                    return Err("its pre_tokenizer (Metaspace) cuts at spaces, which llama.cpp does not".to_string());
                }
                match metaspace["prepend_scheme"].as_str() {
                    Some("always") => Ok(true),
                    Some("never") => Ok(false),
                    Some("first") => {
                        self.notes.push(
                            "llama.cpp puts a space behind special tokens, too; this tokenizer does only before a text \
                             (prepend_scheme \"first\")"
                                .to_string(),
                        );
                        Ok(true)
                    }
                    _ => Err("its pre_tokenizer (Metaspace) has no prepend_scheme that is known".to_string()),
                }
            }
            _ => {
                let kinds: Vec<String> = normalizer.iter().map(|step| kind_of(step)).collect();
                let (normalizer, words) = (kinds.join(", "), kind_of(&file.pre_tokenizer));
                Err(format!("its normalizer ({normalizer}) and pre_tokenizer ({words}) are not those of Llama's files"))
            }
        }
    }

    /// Which ids stand for beginnings and ends, and whether they are put around a text.
    fn add_special(
        &mut self,
        file: &TokenizerJson,
        tokenizer: &Tokenizer,
        of: &VocabularyOf<'_>,
    ) -> Result<(), String> {
        let around = Around::of(&file.post_processor)?;
        let id =
            |token: &String| tokenizer.token_to_id(token).ok_or(format!("{token:?} of its post_processor is no token"));
        let (first, last) =
            (around.before.map(|token| id(&token)).transpose()?, around.behind.map(|token| id(&token)).transpose()?);
        let bos = first.or(tokenizer.bos()).or(of.bos.first().copied());
        let eos = last.or(tokenizer.eos()).or(of.eos.first().copied());
        let in_range = |id: &u32| (*id as usize) < of.vocab_size;
        let ends: BTreeSet<u32> = of.eos.iter().copied().chain(tokenizer.eos()).filter(in_range).collect();
        let mut others = ends.into_iter().filter(|&end| Some(end) != eos);
        let named = [
            ("bos", bos),
            ("eos", eos),
            ("eot", others.next()),
            ("eom", others.next()),
            ("unknown", file.model.unk_token.as_deref().and_then(|token| tokenizer.token_to_id(token))),
            ("padding", tokenizer.pad()),
        ];
        for (name, id) in named {
            if let Some(id) = id.filter(in_range) {
                self.add(&format!("ggml.{name}_token_id"), GgufEntry::U32(id));
            }
        }
        let left: Vec<String> = others.map(|id| id.to_string()).collect();
        if !left.is_empty() {
            let left = left.join(", ");
            self.notes.push(format!("a GGUF file names three ends of a text at most; left out are the ids {left}"));
        }
        self.add("ggml.add_bos_token", GgufEntry::Flag(first.is_some()));
        self.add("ggml.add_eos_token", GgufEntry::Flag(last.is_some()));
        Ok(())
    }

    fn add_templates(&mut self, tokenizer: &Tokenizer) {
        let templates = tokenizer.chat_templates();
        if let Some(template) = &templates.default {
            self.add("chat_template", GgufEntry::Text(template.clone()));
        }
        if let Some(template) = &templates.tool_use {
            self.add("chat_templates", GgufEntry::Texts(vec!["tool_use".to_string()]));
            self.add("chat_template.tool_use", GgufEntry::Text(template.clone()));
        }
    }
}

impl Tokens {
    /// All ids of the model: its tokens, then the added ones, and names for ids that have neither. `kind` is of a token that
    /// is not added.
    fn of(file: &TokenizerJson, size: usize, kind: &dyn Fn(&str) -> i32) -> Result<Self, String> {
        let mut tokens = Tokens { texts: vec![String::new(); size], kinds: vec![UNUSED; size] };
        let mut taken: BTreeSet<String> = BTreeSet::new();
        for (text, &id) in &file.model.vocab {
            tokens.put(id, text.clone(), kind(text))?;
        }
        for token in &file.added_tokens {
            let before = tokens.kinds.get(token.id as usize).copied();
            let kind = match token.special {
                // The unknown token stays it.
                true if before == Some(UNKNOWN) => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
            // llama.cpp looks for such a token in the text as it is written, where a space is a space.
            let text = if token.special { token.content.clone() } else { token.content.replace(SPACE, " ") };
            tokens.put(token.id, text, kind)?;
        }
        for (text, kind) in tokens.texts.iter().zip(&tokens.kinds).filter(|(_, kind)| **kind != UNUSED) {
            if text.is_empty() {
                return Err("it has an empty token, which llama.cpp gives another name".to_string());
            }
            if !taken.insert(text.clone()) {
                return Err(format!("the token {:?} has two ids (kind {kind})", excerpt(text)));
            }
        }
        for id in (0..size).filter(|&id| tokens.kinds[id] == UNUSED) {
            let mut name = format!("[PAD{id}]");
            while !taken.insert(name.clone()) {
                name.push('_');
            }
            tokens.texts[id] = name;
        }
        Ok(tokens)
    }

    fn put(&mut self, id: u32, text: String, kind: i32) -> Result<(), String> {
        let at = id as usize;
        if at >= self.texts.len() {
            return Err(format!("the token {:?} has the id {id}, beyond the model's", excerpt(&text)));
        }
        (self.texts[at], self.kinds[at]) = (text, kind);
        Ok(())
    }
}

/// What a post-processor puts before and behind a text.
#[derive(Default)]
struct Around {
    before: Option<String>,
    behind: Option<String>,
}

impl Around {
    fn of(post_processor: &Value) -> Result<Self, String> {
        let mut around = Around::default();
        for step in steps(post_processor, "processors") {
            match step["type"].as_str() {
                Some("ByteLevel") => {}
                Some("TemplateProcessing") => around = Around::of_template(&step["single"])?,
                _ => return Err(format!("its post_processor has a {} step, which is not known", kind_of(step))),
            }
        }
        Ok(around)
    }

    fn of_template(single: &Value) -> Result<Self, String> {
        let other = || "its post_processor puts more around a text than a beginning and an end".to_string();
        let pieces: Vec<Option<String>> = single
            .as_array()
            .into_iter()
            .flatten()
            .map(|piece| piece["SpecialToken"]["id"].as_str().map(str::to_string))
            .collect();
        let at = pieces.iter().position(Option::is_none).ok_or_else(other)?;
        match (&pieces[..at], &pieces[at + 1..]) {
            (before @ ([] | [_]), behind @ ([] | [Some(_)])) => {
                let token = |pieces: &[Option<String>]| pieces.first().cloned().flatten();
                Ok(Around { before: token(before), behind: token(behind) })
            }
            _ => Err(other()),
        }
    }
}

/// The token of a byte.
fn byte_token(byte: u8) -> String {
    format!("<0x{byte:02X}>")
}
