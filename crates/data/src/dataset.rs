//! All samples of a run, cut to `seq_len`, in two lists: tokens, and an index of where each sample's are. Invariants:
//! every sample has 2 to `seq_len` tokens and at least one trained label that is predicted; whatever was cut or left out
//! is in the file's `SampleStats`; memory does not grow with the data (`words`). `rows_file` keeps both lists for a run
//! that goes on.
//!
//! A token is a word: its id, and a bit that says whether it is trained on. The labels of a sample with others than its
//! ids, which only rows of tokens can have, stand behind its tokens.
//!
//! Position 0 is never predicted (the model predicts token t + 1 at t), so its label does not count as trained.

use crate::encode::{Encoder, Sample};
use crate::error::RowPlace;
use crate::row::options::DataFile;
use crate::row::{FileRows, RowOptions};
use crate::source::read_rows;
use crate::tokens::IGNORED_LABEL;
use crate::words::{MEMORY_WORDS, Words};
use crate::{DataError, Row, RowKind};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A sample of a dataset, by its position in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId(pub u32);

/// Where a sample's tokens are, as the index has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Entry {
    start: u64,
    /// How many tokens it has.
    pub(crate) tokens: usize,
    /// How many of them are predicted and trained on.
    pub(crate) trained: usize,
    /// Whether its labels stand behind its tokens.
    own_labels: bool,
}

impl Entry {
    /// The word behind its last.
    pub(crate) fn end(&self) -> Option<u64> {
        self.start.checked_add(self.tokens as u64 * if self.own_labels { 2 } else { 1 })
    }

    pub(crate) fn start(&self) -> u64 {
        self.start
    }
}

/// Words of the index per sample.
pub(crate) const ENTRY_WORDS: u64 = 4;
/// The bit of a token that is trained on, and that of a sample with labels of its own.
const FLAG: u32 = 1 << 31;

impl Entry {
    fn words(&self) -> [u32; ENTRY_WORDS as usize] {
        let flag = if self.own_labels { FLAG } else { 0 };
        [self.start as u32, (self.start >> 32) as u32, self.tokens as u32 | flag, self.trained as u32]
    }

    fn of(words: [u32; ENTRY_WORDS as usize]) -> Self {
        let [low, high, tokens, trained] = words;
        let start = u64::from(low) | u64::from(high) << 32;
        Entry { start, tokens: (tokens & !FLAG) as usize, trained: trained as usize, own_labels: tokens & FLAG != 0 }
    }
}

impl SampleStats {
    /// The rows' format, if they were rows.
    pub fn kind(&self) -> Option<RowKind> {
        self.file.kind
    }
}

/// How many of a sample's labels are predicted and trained on.
fn trained(labels: &[i32]) -> usize {
    labels.iter().skip(1).filter(|&&label| label != IGNORED_LABEL).count()
}

/// What became of the rows of one file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SampleStats {
    /// The file.
    pub path: PathBuf,
    /// Its format, and what was passed over in it; empty for samples that were never rows.
    pub file: FileRows,
    /// Rows read.
    pub rows: usize,
    /// Rows left out because the file is there only with a share of them.
    pub not_taken: usize,
    /// Rows longer than `seq_len`, cut at the end.
    pub truncated: usize,
    /// Tokens that those cuts removed.
    pub cut_tokens: usize,
    /// Samples that are kept, a row that is taken twice counted twice.
    pub kept: usize,
    /// Rows left out because no predicted token is trained on, as they came or after the cut.
    pub dropped: usize,
    /// Rows that should end in EOS, but for which the tokenizer knows none; conversations with a trained turn that the
    /// chat template does not end with a special token.
    pub unterminated: usize,
    /// Conversations with a message that the chat template leaves out.
    pub incomplete: usize,
    /// Tokens of the longest row, before any cut.
    pub longest: usize,
    /// Tokens of the samples that are kept.
    pub tokens: usize,
    /// Of those, the tokens that are predicted and trained on.
    pub trained_tokens: usize,
}

/// Collects samples. [`Dataset::load`] is the usual way; this one is for samples that are not in files.
#[derive(Debug)]
pub struct DatasetBuilder {
    seq_len: usize,
    tokens: Words,
    index: Words,
    len: usize,
    largest: u32,
    folder: PathBuf,
    stats: Vec<SampleStats>,
    /// How often each row of the current source is there.
    file: DataFile,
}

impl DatasetBuilder {
    /// An empty collection; samples will be cut to `seq_len` tokens.
    pub fn new(seq_len: usize) -> Result<Self, DataError> {
        if seq_len < 2 {
            return Err(DataError::SeqLen { seq_len });
        }
        Ok(DatasetBuilder::in_folder(seq_len, std::env::temp_dir(), MEMORY_WORDS))
    }

    /// With the folder where what is long is kept, in files without names; the system's for such files if nothing is said.
    #[must_use]
    pub fn with_folder(self, folder: PathBuf) -> Self {
        DatasetBuilder::in_folder(self.seq_len, folder, MEMORY_WORDS)
    }

    fn in_folder(seq_len: usize, folder: PathBuf, limit: usize) -> Self {
        let (tokens, index) = (Words::new(&folder, limit), Words::new(&folder, limit));
        let file = DataFile::parse(Path::new(""));
        DatasetBuilder { seq_len, tokens, index, len: 0, largest: 0, folder, stats: Vec::new(), file }
    }

    /// Starts the counts of one source, which may be given as `FILE:SHARE`; the samples pushed next belong to it. Returns
    /// the file's path.
    pub fn start_source(&mut self, given: &Path) -> PathBuf {
        self.file = DataFile::parse(given);
        let path = &self.file.path;
        self.stats.push(SampleStats {
            path: path.to_path_buf(),
            file: FileRows::default(),
            rows: 0,
            not_taken: 0,
            kept: 0,
            truncated: 0,
            cut_tokens: 0,
            dropped: 0,
            unterminated: 0,
            incomplete: 0,
            longest: 0,
            tokens: 0,
            trained_tokens: 0,
        });
        path.clone()
    }

    /// Adds a sample to the current source, cut to `seq_len`; one without a trained token is counted and left out.
    ///
    /// Panics before the first `start_source`, and if the sample's labels are not one per token.
    pub fn push(&mut self, sample: &Sample) -> Result<(), DataError> {
        let Some((kept_len, times)) = self.count(sample) else { return Ok(()) };
        let kept = 0..kept_len;
        let trained = trained(&sample.labels[kept.clone()]);
        if trained == 0 {
            self.current().dropped += 1;
            return Ok(());
        }
        (0..times).try_for_each(|_| self.keep(sample, kept.clone(), trained))
    }

    /// Adds a row as its kind asks for: cut to `seq_len`, or, a whole file's text, as many samples of that length as it
    /// fills, nothing of it lost.
    pub(crate) fn push_row(&mut self, row: &Row, encoder: &Encoder<'_>, place: &RowPlace) -> Result<(), DataError> {
        let Row::Document { text } = row else { return self.push(&encoder.encode(row, place)?) };
        let Some(times) = self.count_row() else { return Ok(()) };
        for _ in 0..times {
            let mut tokens = 0;
            let terminated = encoder.divided(text, self.seq_len, place, &mut |part| {
                tokens += part.len();
                let labels = part.iter().map(|&id| id as i32).collect();
                let sample = Sample { ids: part.to_vec(), labels, terminated: true, complete: true, beyond: 0 };
                match trained(&sample.labels) {
                    // One token by itself predicts nothing.
                    0 => self.current().cut_tokens += part.len(),
                    trained => self.keep(&sample, 0..part.len(), trained)?,
                }
                Ok(())
            })?;
            let stats = self.current();
            stats.longest = stats.longest.max(tokens);
            stats.unterminated = usize::from(!terminated);
        }
        Ok(())
    }

    fn current(&mut self) -> &mut SampleStats {
        self.stats.last_mut().expect("DatasetBuilder: start_source comes before push")
    }

    /// Counts a row that is cut to `seq_len` tokens: how many are left, and how often the row is taken; `None` if never.
    fn count(&mut self, sample: &Sample) -> Option<(usize, usize)> {
        assert_eq!(sample.ids.len(), sample.labels.len(), "DatasetBuilder: a sample needs one label per token");
        let times = self.count_row()?;
        let seq_len = self.seq_len;
        let stats = self.current();
        let full_len = sample.ids.len() + sample.beyond;
        let kept_len = sample.ids.len().min(seq_len);
        stats.longest = stats.longest.max(full_len);
        stats.unterminated += usize::from(!sample.terminated);
        stats.incomplete += usize::from(!sample.complete);
        stats.truncated += usize::from(full_len > kept_len);
        stats.cut_tokens += full_len - kept_len;
        Some((kept_len, times))
    }

    /// Counts a row and says how often it is taken; `None` if never.
    fn count_row(&mut self) -> Option<usize> {
        let rows = self.current().rows;
        let times = self.file.times(rows);
        let stats = self.current();
        stats.rows += 1;
        stats.not_taken += usize::from(times == 0);
        (times > 0).then_some(times)
    }

    fn keep(&mut self, sample: &Sample, part: Range<usize>, trained: usize) -> Result<(), DataError> {
        if self.len >= u32::MAX as usize {
            return Err(DataError::TooManyRows { limit: u32::MAX as usize });
        }
        let stats = self.current();
        stats.kept += 1;
        stats.tokens += part.len();
        stats.trained_tokens += trained;
        let (ids, labels) = (&sample.ids[part.clone()], &sample.labels[part]);
        let is_own = |(&id, &label): (&u32, &i32)| label != IGNORED_LABEL && label != id as i32;
        let own_labels = ids.iter().zip(labels).any(is_own);
        let entry = Entry { start: self.tokens.len(), tokens: ids.len(), trained, own_labels };
        let labelled = labels.iter().filter_map(|&label| u32::try_from(label).ok());
        self.largest = ids.iter().copied().chain(labelled).fold(self.largest, u32::max);
        let flag = |label: i32| if label == IGNORED_LABEL { 0 } else { FLAG };
        self.tokens.push(ids.iter().zip(labels).map(|(&id, &label)| id | flag(label)))?;
        if own_labels {
            self.tokens.push(labels.iter().map(|&label| label as u32))?;
        }
        self.index.push(entry.words().into_iter())?;
        self.len += 1;
        Ok(())
    }

    /// Says what the rows of the current source were.
    ///
    /// Panics before the first `start_source`.
    pub fn finish_source(&mut self, file: FileRows) {
        self.stats.last_mut().expect("DatasetBuilder: start_source comes before finish_source").file = file;
    }

    /// What became of the samples so far, source by source.
    pub fn stats(&self) -> &[SampleStats] {
        &self.stats
    }

    /// The dataset, or an error if there is nothing to train on.
    pub fn finish(mut self) -> Result<Dataset, DataError> {
        if self.len == 0 {
            return Err(DataError::NothingToTrain {
                rows: self.stats.iter().map(|file| file.rows).sum(),
                truncated: self.stats.iter().map(|file| file.truncated).sum(),
                seq_len: self.seq_len,
            });
        }
        self.tokens.finish()?;
        self.index.finish()?;
        let DatasetBuilder { seq_len, tokens, index, len, largest, folder, stats, .. } = self;
        Ok(Dataset { seq_len, tokens, index, len, largest, folder, stats, settings: None, was_kept: false })
    }
}

/// All samples of a run.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub(crate) seq_len: usize,
    pub(crate) tokens: Words,
    pub(crate) index: Words,
    pub(crate) len: usize,
    /// No id or label is larger.
    pub(crate) largest: u32,
    pub(crate) folder: PathBuf,
    pub(crate) stats: Vec<SampleStats>,
    /// What made them, of rows that are to be kept.
    pub(crate) settings: Option<String>,
    pub(crate) was_kept: bool,
}

impl Dataset {
    /// Reads, encodes and cuts the rows of all files, in their order.
    pub fn load(
        paths: &[PathBuf],
        options: &RowOptions,
        encoder: &Encoder<'_>,
        seq_len: usize,
    ) -> Result<Dataset, DataError> {
        if paths.is_empty() {
            return Err(DataError::NoFiles);
        }
        let mut builder = DatasetBuilder::new(seq_len)?;
        let encoder = encoder.clone().with_limit(seq_len);
        if let Some(folder) = &options.folder {
            builder = builder.with_folder(folder.clone());
        }
        for path in paths {
            let path = builder.start_source(path);
            let mut encode = |line, row| {
                let place = RowPlace::new(&path, line);
                builder.push_row(&row, &encoder, &place)
            };
            let file = read_rows(&path, options, &mut encode)?;
            builder.finish_source(file);
        }
        options.check_columns(builder.stats.iter().map(|source| &source.file))?;
        builder.finish()
    }

    /// How many samples there are; at least one.
    #[allow(clippy::len_without_is_empty)] // A dataset is never empty.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The length that samples were cut to.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// All samples in file order.
    pub fn sample_ids(&self) -> impl ExactSizeIterator<Item = SampleId> + use<> {
        (0..self.len as u32).map(SampleId)
    }

    /// One sample.
    ///
    /// # Errors
    /// A file of long data that cannot be read any more.
    pub fn sample(&self, id: SampleId) -> Result<Sample, DataError> {
        let (mut ids, mut labels) = (Vec::new(), Vec::new());
        self.each_token(self.entry(id)?, &mut |_, token, label| {
            ids.push(token);
            labels.push(label);
        })?;
        Ok(Sample { ids, labels, terminated: true, complete: true, beyond: 0 })
    }

    pub(crate) fn entry(&self, id: SampleId) -> Result<Entry, DataError> {
        let mut words = [0; ENTRY_WORDS as usize];
        self.index.read(u64::from(id.0) * ENTRY_WORDS, &mut words)?;
        let entry = Entry::of(words);
        let whole = (2..=self.seq_len).contains(&entry.tokens) && (1..entry.tokens).contains(&entry.trained);
        match entry.end() {
            Some(end) if whole && end <= self.tokens.len() => Ok(entry),
            _ => Err(self.damaged("the index of the rows")),
        }
    }

    /// A file of long data may have a name, and so be written to by others.
    fn damaged(&self, what: &str) -> DataError {
        let reason = format!("{what} was changed since it was written");
        DataError::Damaged { path: self.folder.clone(), reason }
    }

    /// Gives each token of a sample: its position, id and label. Allocates nothing.
    pub(crate) fn each_token(&self, entry: Entry, give: &mut dyn FnMut(usize, u32, i32)) -> Result<(), DataError> {
        const PART: usize = 512;
        let (mut words, mut labels) = ([0; PART], [0; PART]);
        for first in (0..entry.tokens).step_by(PART) {
            let count = PART.min(entry.tokens - first);
            let at = entry.start + first as u64;
            self.tokens.read(at, &mut words[..count])?;
            if entry.own_labels {
                self.tokens.read(at + entry.tokens as u64, &mut labels[..count])?;
            }
            for (offset, &word) in words[..count].iter().enumerate() {
                let label = match (entry.own_labels, word & FLAG) {
                    (true, _) => labels[offset] as i32,
                    (false, 0) => IGNORED_LABEL,
                    (false, _) => (word & !FLAG) as i32,
                };
                if word & !FLAG > self.largest || (label != IGNORED_LABEL && label as u32 > self.largest) {
                    return Err(self.damaged("a token of the rows"));
                }
                give(first + offset, word & !FLAG, label);
            }
        }
        Ok(())
    }

    /// The file that a sample is of, and its number among those that were kept of the file, from 1.
    pub fn origin(&self, id: SampleId) -> Option<(&Path, usize)> {
        let mut index = id.0 as usize;
        for source in &self.stats {
            if index < source.kept {
                return Some((&source.path, index + 1));
            }
            index -= source.kept;
        }
        None
    }

    /// Whether they were read from the file of [`Dataset::keep`].
    pub fn was_kept(&self) -> bool {
        self.was_kept
    }

    /// Whether [`Dataset::keep`] has something to do.
    pub fn is_to_be_kept(&self) -> bool {
        self.settings.is_some()
    }

    /// Where what is long is kept.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// What became of the rows, file by file.
    pub fn stats(&self) -> &[SampleStats] {
        &self.stats
    }

    /// Bytes held, for the memory table.
    pub fn bytes(&self) -> usize {
        self.tokens.bytes() + self.index.bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_the_same_in_memory_and_in_a_file() {
        let folder = tempfile::tempdir().expect("folder");
        let sample = |index: i32| {
            let ids: Vec<u32> = (0..2 + index as u32 % 700).map(|token| token * 7 % 1000 + (1 << 20)).collect();
            let label = |(position, &id): (usize, &u32)| match (index % 3, position % 4) {
                (0, _) => id as i32,
                (_, 0) => IGNORED_LABEL,
                (1, _) => id as i32,
                _ => position as i32,
            };
            let labels = ids.iter().enumerate().map(label).collect();
            Sample { ids, labels, terminated: true, complete: true, beyond: 0 }
        };
        for limit in [16, 1000, MEMORY_WORDS] {
            let mut builder = DatasetBuilder::in_folder(800, folder.path().to_path_buf(), limit);
            builder.start_source(Path::new("made"));
            (0..900).for_each(|index| builder.push(&sample(index)).expect("kept"));
            let data = builder.finish().expect("something to train on");
            assert_eq!(data.len(), 900);
            assert!(limit == MEMORY_WORDS || data.bytes() == 0, "all is in files");
            for index in [0, 1, 2, 3, 599, 700, 701, 702, 899] {
                let expected = sample(index);
                let entry = data.entry(SampleId(index as u32)).expect("read");
                assert_eq!((entry.tokens, entry.trained), (expected.ids.len(), trained(&expected.labels)));
                assert_eq!(data.sample(SampleId(index as u32)).expect("read"), expected, "{limit}: {index}");
            }
        }
    }
}
