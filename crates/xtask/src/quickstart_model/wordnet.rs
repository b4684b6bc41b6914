//! Reads WordNet 3.0's database files (format: `man 5 wndb`) into text rows and nouns with their hypernyms.
//!
//! Text comes from every synset with a plain word; questions are asked about nouns that occur in WordNet's own tagged
//! corpus, each in its commonest sense.

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::Path;

/// A noun to ask about.
#[derive(Debug, Clone)]
pub(super) struct Noun {
    word: String,
    meaning: String,
    kind: String,
    uses: u32,
}

impl Noun {
    /// Whether the word is in use and its meaning is short and names its kind.
    fn can_be_asked(&self) -> bool {
        let mut words = self.meaning.split(|c: char| !c.is_ascii_alphabetic());
        self.uses > 0 && self.meaning.len() <= LONGEST_MEANING && words.any(|word| word == self.kind)
    }

    /// `Dictionary: river (noun): a large natural stream of water.\nQuestion: What is a river?\nAnswer:`
    pub(super) fn question(&self) -> String {
        let Noun { word, meaning, .. } = self;
        format!("Dictionary: {word} (noun): {meaning}.\nQuestion: What is {} {word}?\nAnswer:", article(word))
    }

    /// ` A river is a kind of stream.`
    pub(super) fn answer(&self) -> String {
        format!(" {}", self.sentence())
    }

    fn sentence(&self) -> String {
        let article = article(&self.word);
        let capital = if article == "an" { "An" } else { "A" };
        format!("{capital} {} is a kind of {}.", self.word, self.kind)
    }
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" }
}

/// Nouns whose meaning takes more characters are not asked about.
const LONGEST_MEANING: usize = 90;

/// What is taken from the database.
#[derive(Debug, Default)]
pub(super) struct Words {
    /// Rows of plain text.
    pub(super) texts: Vec<String>,
    /// Nouns with a one-word hypernym, the commonest first.
    pub(super) nouns: Vec<Noun>,
}

struct Synset {
    words: Vec<(String, String)>,
    hypernym: Option<String>,
    gloss: String,
}

/// Reads the database folder.
pub(super) fn read(folder: &Path) -> Result<Words, Box<dyn Error>> {
    let missing = |file: &Path, error: std::io::Error| {
        format!("{}: {error}; install WordNet's files (Debian: apt-get install wordnet-base)", file.display())
    };
    let load = |name: &str| {
        let path = folder.join(name);
        fs::read(&path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).map_err(|e| missing(&path, e))
    };
    let uses = uses(&load("cntlist.rev")?);
    let mut words = Words::default();
    for (part, number, name) in
        [("noun", 1, "noun"), ("verb", 2, "verb"), ("adj", 3, "adjective"), ("adv", 4, "adverb")]
    {
        let synsets = synsets(&load(&format!("data.{part}"))?);
        let mut offsets: Vec<&String> = synsets.keys().collect();
        offsets.sort();
        for offset in offsets {
            let synset = &synsets[offset];
            let Some((word, count)) = commonest(synset, number, &uses) else { continue };
            let kind = synset.hypernym.as_ref().and_then(|h| synsets.get(h)).and_then(|s| s.words.first());
            let kind = kind.map(|(kind, _)| kind.clone()).filter(|kind| is_plain(kind) && *kind != word);
            let meaning = meaning(synset).to_string();
            let noun =
                kind.filter(|_| part == "noun").map(|kind| Noun { word: word.clone(), meaning, kind, uses: count });
            words.texts.extend(texts(&word, name, synset, noun.as_ref()));
            words.nouns.extend(noun.filter(Noun::can_be_asked));
        }
    }
    words.nouns.sort_by(|a, b| b.uses.cmp(&a.uses).then_with(|| a.word.cmp(&b.word)));
    Ok(words)
}

/// The licence at the head of a database file.
pub(super) fn licence(folder: &Path) -> Result<String, Box<dyn Error>> {
    let bytes = fs::read(folder.join("data.adv"))?;
    let text = String::from_utf8_lossy(&bytes);
    let head = text.lines().take_while(|line| line.starts_with("  "));
    // Each line of the head is numbered.
    let lines: Vec<&str> =
        head.map(|line| line.trim_start().split_once(' ').map_or("", |(_, rest)| rest.trim_end())).collect();
    Ok(format!("{}\n", lines.join("\n").trim()))
}

/// Uses in the tagged corpus, by sense key without the adjective cluster, for first senses.
fn uses(list: &str) -> HashMap<String, u32> {
    let entry = |line: &str| {
        let mut fields = line.split(' ');
        let (key, sense, count) = (fields.next()?, fields.next()?, fields.next()?);
        let key = key.split(':').take(3).collect::<Vec<_>>().join(":");
        (sense == "1").then(|| count.trim().parse().ok().map(|count| (key, count)))?
    };
    list.lines().filter_map(entry).collect()
}

fn synsets(data: &str) -> HashMap<String, Synset> {
    data.lines().filter(|line| !line.starts_with("  ")).filter_map(synset).collect()
}

fn synset(line: &str) -> Option<(String, Synset)> {
    let (fields, gloss) = line.split_once(" | ")?;
    let mut fields = fields.split(' ');
    let offset = fields.next()?.to_string();
    let lexicographer = fields.next()?.to_string();
    let _kind = fields.next()?;
    let count = usize::from_str_radix(fields.next()?, 16).ok()?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        let word = fields.next()?.split('(').next()?.to_string();
        let id = u32::from_str_radix(fields.next()?, 16).ok()?;
        words.push((word, format!("{lexicographer}:{id:02}")));
    }
    let pointers: usize = fields.next()?.parse().ok()?;
    let mut hypernym = None;
    for _ in 0..pointers {
        let (symbol, target) = (fields.next()?, fields.next()?);
        let (_part, _where) = (fields.next()?, fields.next()?);
        if symbol == "@" && hypernym.is_none() {
            hypernym = Some(target.to_string());
        }
    }
    Some((offset, Synset { words, hypernym, gloss: gloss.trim().to_string() }))
}

/// The plain word of a synset that is used most in its first sense, and how often; the first of equals.
fn commonest(synset: &Synset, part: u32, uses: &HashMap<String, u32>) -> Option<(String, u32)> {
    let count =
        |(word, id): &(String, String)| (word.clone(), uses.get(&format!("{word}%{part}:{id}")).copied().unwrap_or(0));
    synset.words.iter().filter(|(word, _)| is_plain(word)).map(count).rev().max_by_key(|(_, count)| *count)
}

/// What a synset means: its gloss up to the first example.
fn meaning(synset: &Synset) -> &str {
    synset.gloss.split("; \"").next().unwrap_or_default().trim_matches('"')
}

fn is_plain(word: &str) -> bool {
    word.len() > 1 && word.chars().all(|c| c.is_ascii_lowercase())
}

/// A row that says what the word means and, if it is a noun, what kind of thing it is; and a row of its examples.
fn texts(word: &str, part: &str, synset: &Synset, noun: Option<&Noun>) -> Vec<String> {
    let pieces = synset.gloss.split("; \"").skip(1);
    let kind = noun.map(|noun| format!(" {}", noun.sentence())).unwrap_or_default();
    let mut rows = vec![format!("{word} ({part}): {}.{kind}", meaning(synset))];
    let examples: Vec<String> = pieces.map(|example| sentence(example.split('"').next().unwrap_or_default())).collect();
    rows.extend((!examples.is_empty()).then(|| examples.join(" ")));
    rows
}

fn sentence(example: &str) -> String {
    let mut characters = example.trim().chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    let rest = characters.as_str();
    let end = if rest.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{rest}{end}")
}
