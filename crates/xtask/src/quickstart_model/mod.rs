//! `cargo xtask quickstart-model`: makes the small model and data that `remat quickstart` has in its binary.
//!
//! WordNet's glosses become text rows and questions; a byte-level BPE is trained on the text; a Llama of three million
//! parameters is trained from random numbers by this project's own `train --method full` and written in bf16 with the
//! tokenizer, the questions, the licence and a README beside it. Every step is seeded: the same files on the same machine.

mod base_model;
mod tokenizer;
mod wordnet;

use remat_formats::write_atomic;
use serde_json::json;
use std::error::Error;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use wordnet::Noun;

/// Questions that are never trained on, neither here nor by the quickstart.
const HELD_OUT: usize = 32;
/// Questions to train on.
const QUESTIONS: usize = 960;

/// Reads WordNet from `wordnet`, works in `work`, writes the result to `assets`.
pub fn make(wordnet: &Path, work: &Path, assets: &Path, updates: u64) -> Result<(), Box<dyn Error>> {
    std::fs::create_dir_all(work)?;
    std::fs::create_dir_all(assets)?;
    let words = wordnet::read(wordnet)?;
    let text = work.join("text.jsonl");
    let rows: Vec<String> = words.texts.clone();
    write_rows(&text, rows.iter().map(|row| json!({ "text": row })))?;
    let base = work.join("base");
    std::fs::create_dir_all(&base)?;
    let vocabulary = tokenizer::train(&rows, &base)?;
    println!("{} text rows, {} nouns, {vocabulary} tokens in the vocabulary", rows.len(), words.nouns.len());
    base_model::initialise(&base, vocabulary)?;
    let trained = work.join("trained");
    base_model::pretrain(&base, &text, &trained, updates)?;
    base_model::write_bf16(&trained, &assets.join("model"))?;
    write_questions(&words.nouns, assets)?;
    let licence = wordnet::licence(wordnet)?;
    write_atomic(&assets.join("LICENSE-WORDNET"), licence.as_bytes())?;
    println!("written to {}", assets.display());
    Ok(())
}

/// Every n-th of the commonest nouns is held out; the rest, in order of use, is trained on.
fn write_questions(nouns: &[Noun], assets: &Path) -> Result<(), Box<dyn Error>> {
    let chosen = &nouns[..nouns.len().min(QUESTIONS + HELD_OUT)];
    let stride = chosen.len() / HELD_OUT;
    let row = |noun: &Noun| json!({ "prompt": noun.question(), "completion": noun.answer() });
    let held_out = chosen.iter().step_by(stride).take(HELD_OUT);
    write_rows(&assets.join("held-out.jsonl"), held_out.map(row))?;
    let trained = chosen.iter().enumerate().filter(|(i, _)| i % stride != 0 || i / stride >= HELD_OUT);
    write_rows(&assets.join("questions.jsonl"), trained.map(|(_, noun)| row(noun)))
}

fn write_rows(path: &Path, rows: impl Iterator<Item = serde_json::Value>) -> Result<(), Box<dyn Error>> {
    let mut text = String::new();
    for row in rows {
        writeln!(text, "{row}")?;
    }
    Ok(write_atomic(path, text.as_bytes())?)
}

/// Where the parts lie by default.
pub fn defaults(root: &Path) -> [PathBuf; 3] {
    [
        PathBuf::from("/usr/share/wordnet"),
        root.join("target/quickstart-model"),
        root.join("crates/cli/assets/quickstart"),
    ]
}
