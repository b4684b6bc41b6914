//! The crate's tests, one binary. `messages`: each error in its exact words. `samples`: rows to samples and counts.
//! `cases`: rows that people have, of each kind one file in `tests/cases`, and their neighbours. `batches`: layouts computed by hand. `chat`: templates and trained turns; `turns`: where they are found. `properties`: order, resume, look-ahead and packing on random data.

#![allow(missing_docs)]

mod batches;
mod cases;
mod chat;
mod files;
mod messages;
mod properties;
mod samples;
mod tokenizers;
mod turns;

use remat_data::{Dataset, DatasetBuilder, Encoder, RowOptions, Sample, TokenSource, TokenSpan};
use std::path::{Path, PathBuf};

/// One id per byte, 256 for BOS (a special token) and 257 for EOS, which also stands for the word `</s>`.
pub struct Bytes {
    pub eos: Option<u32>,
    pub closes_texts: bool,
}

pub const BOS: u32 = 256;
pub const EOS: u32 = 257;
pub const VOCABULARY: usize = 258;

impl TokenSource for Bytes {
    fn encode(&self, text: &str, add_special: bool) -> Result<Vec<u32>, String> {
        if text.contains('\u{fffd}') {
            return Err("a replacement character".to_string());
        }
        let mut ids: Vec<u32> = if add_special { vec![BOS] } else { Vec::new() };
        for (index, part) in text.split("</s>").enumerate() {
            ids.extend((index > 0).then_some(EOS));
            ids.extend(part.bytes().map(u32::from));
        }
        ids.extend((add_special && self.closes_texts).then_some(EOS));
        Ok(ids)
    }

    fn encode_spans(&self, text: &str) -> Result<Vec<TokenSpan>, String> {
        let span = |(start, byte)| TokenSpan { id: u32::from(byte), start, end: start + 1, special: false };
        Ok(text.bytes().enumerate().map(span).collect())
    }

    fn eos(&self) -> Option<u32> {
        self.eos
    }
}

pub const BYTES: Bytes = Bytes { eos: Some(EOS), closes_texts: false };

/// A folder with the given files, and their paths.
pub fn files(contents: &[&[u8]]) -> (tempfile::TempDir, Vec<PathBuf>) {
    let folder = tempfile::tempdir().unwrap();
    let path = |index| folder.path().join(format!("{}.jsonl", (b'a' + index as u8) as char));
    let paths: Vec<PathBuf> = (0..contents.len()).map(path).collect();
    paths.iter().zip(contents).for_each(|(path, bytes)| std::fs::write(path, bytes).unwrap());
    (folder, paths)
}

pub fn load(contents: &str, seq_len: usize) -> Dataset {
    let (_folder, paths) = files(&[contents.as_bytes()]);
    Dataset::load(&paths, &RowOptions::default(), &Encoder::new(Some(&BYTES), VOCABULARY), seq_len).unwrap()
}

/// A dataset of the given (ids, labels).
pub fn dataset(samples: &[(Vec<u32>, Vec<i32>)], seq_len: usize) -> Dataset {
    let mut builder = DatasetBuilder::new(seq_len).unwrap();
    builder.start_source(Path::new("made"));
    for (ids, labels) in samples {
        builder
            .push(&Sample { ids: ids.clone(), labels: labels.clone(), terminated: true, complete: true, beyond: 0 })
            .unwrap();
    }
    builder.finish().unwrap()
}
