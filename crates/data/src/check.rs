//! What a run would make of a file, before it starts: counts, lengths, and rows with their trained tokens marked.
//!
//! Invariant: the counts are the run's own, because the same encoder and the same builder make them.

use crate::dataset::DatasetBuilder;
use crate::encode::{Encoder, Sample};
use crate::error::RowPlace;
use crate::row::RowOptions;
use crate::source::read_rows;
use crate::tokens::IGNORED_LABEL;
use crate::{DataError, Row, SampleStats};
use remat_formats::Tokenizer;
use std::collections::BTreeMap;
use std::path::Path;

/// One file as a run would see it.
#[derive(Debug, Clone)]
pub struct FileCheck {
    /// What became of its rows.
    pub stats: SampleStats,
    /// How many rows have how many tokens, before any cut.
    pub lengths: BTreeMap<usize, usize>,
    /// The first rows.
    pub shown: Vec<ShownRow>,
}

/// A row to be looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShownRow {
    /// The line it starts on, counted from 1.
    pub line: u64,
    /// The text of what is left of it after the cut, in runs of tokens that are trained on or not.
    pub pieces: Vec<Piece>,
    /// Tokens that are left.
    pub tokens: usize,
    /// Of those, the tokens that are predicted and trained on.
    pub trained: usize,
    /// Tokens that the cut removed.
    pub cut_tokens: usize,
}

/// Neighbouring tokens that are all trained on, or all not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Their text; their ids where there is no tokenizer.
    pub text: String,
    /// Whether they are trained on.
    pub trained: bool,
}

/// Reads a file as [`Dataset::load`](crate::Dataset::load) does and shows its first `shown` rows.
///
/// # Errors
/// Those of reading and encoding. That nothing is trained on is no error here: the counts say so.
pub fn check_file(
    path: &Path,
    options: &RowOptions,
    encoder: &Encoder<'_>,
    tokenizer: Option<&Tokenizer>,
    seq_len: usize,
    shown: usize,
) -> Result<FileCheck, DataError> {
    let mut builder = DatasetBuilder::new(seq_len)?;
    let path = &builder.start_source(path);
    let encoder = &encoder.clone().with_limit(seq_len);
    let (mut lengths, mut rows) = (BTreeMap::new(), Vec::new());
    let file = read_rows(path, options, &mut |line, row| {
        let place = RowPlace::new(path, line);
        let sample = encoder.encode(&row, &place)?;
        *lengths.entry(sample.ids.len() + sample.beyond).or_default() += 1;
        if rows.len() < shown {
            let mut row_shown = shown_row(line, &sample, tokenizer, seq_len);
            if matches!(row, Row::Document { .. }) {
                row_shown.cut_tokens = 0;
            }
            rows.push(row_shown);
        }
        match &row {
            Row::Document { .. } => builder.push_row(&row, encoder, &place),
            _ => builder.push(&sample),
        }
    })?;
    builder.finish_source(file);
    Ok(FileCheck { stats: builder.stats()[0].clone(), lengths, shown: rows })
}

fn shown_row(line: u64, sample: &Sample, tokenizer: Option<&Tokenizer>, seq_len: usize) -> ShownRow {
    let tokens = sample.ids.len().min(seq_len);
    let (ids, labels) = (&sample.ids[..tokens], &sample.labels[..tokens]);
    // The first token is never predicted, whatever its label.
    let trains = |index: usize| index > 0 && labels[index] != IGNORED_LABEL;
    let mut pieces = Vec::new();
    let mut start = 0;
    for end in 1..=tokens {
        if end == tokens || trains(end) != trains(start) {
            pieces.push(Piece { text: text_of(ids, start..end, tokenizer), trained: trains(start) });
            start = end;
        }
    }
    let trained = (0..tokens).filter(|&index| trains(index)).count();
    ShownRow { line, pieces, tokens, trained, cut_tokens: sample.ids.len() + sample.beyond - tokens }
}

/// The text of some of a row's tokens.
fn text_of(ids: &[u32], range: std::ops::Range<usize>, tokenizer: Option<&Tokenizer>) -> String {
    let listed = |ids: &[u32]| ids.iter().map(|id| format!("{id} ")).collect::<String>();
    let Some(tokenizer) = tokenizer else { return listed(&ids[range]) };
    let decode = |ids: &[u32]| tokenizer.decode(ids, false).unwrap_or_else(|_| listed(ids));
    // Some decoders drop a space at the start of what they are given, so a run is what it adds to all before it.
    let (before, whole) = (decode(&ids[..range.start]), decode(&ids[..range.end]));
    match whole.strip_prefix(&before) {
        Some(text) => text.to_string(),
        None => decode(&ids[range]),
    }
}
