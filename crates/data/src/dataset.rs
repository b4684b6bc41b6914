//! All samples of a run, cut to `seq_len`, in three flat arrays. Invariants: every sample has 2 to `seq_len` tokens
//! and at least one trained label that is predicted; whatever was cut or left out is in the file's `SampleStats`.
//!
//! Position 0 is never predicted (the model predicts token t + 1 at t), so its label does not count as trained.

use crate::encode::{Encoder, IGNORED_LABEL, Sample};
use crate::error::Place;
use crate::row::options::DataFile;
use crate::row::parser::{FileRows, RowOptions};
use crate::source::read_rows;
use crate::{DataError, Row, RowKind};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A sample of a dataset, by its position in file order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleId(pub u32);

/// One sample of a dataset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleRef<'a> {
    /// Token ids.
    pub ids: &'a [u32],
    /// One label per token, unshifted; -100 where not trained on.
    pub labels: &'a [i32],
}

impl SampleStats {
    /// The rows' format, if they were rows.
    pub fn kind(&self) -> Option<RowKind> {
        self.file.kind
    }
}

impl SampleRef<'_> {
    /// How many of its tokens are predicted and trained on.
    pub fn trained(&self) -> usize {
        trained(self.labels)
    }
}

fn trained(labels: &[i32]) -> usize {
    labels.iter().skip(1).filter(|&&label| label != IGNORED_LABEL).count()
}

/// What became of the rows of one file.
#[derive(Debug, Clone, PartialEq)]
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
    ids: Vec<u32>,
    labels: Vec<i32>,
    ends: Vec<usize>,
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
        let (ids, labels, ends, stats) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Ok(DatasetBuilder { seq_len, ids, labels, ends, stats, file: DataFile::parse(Path::new("")) })
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
        let Some((kept_len, times)) = self.count(sample, self.seq_len) else { return Ok(()) };
        let kept = 0..kept_len;
        let trained = trained(&sample.labels[kept.clone()]);
        if trained == 0 {
            self.current().dropped += 1;
            return Ok(());
        }
        (0..times).try_for_each(|_| self.keep(sample, kept.clone(), trained))
    }

    /// Adds a text that fills as many samples of `seq_len` as it needs; nothing of it is cut.
    ///
    /// Panics as [`push`](Self::push) does.
    pub fn push_divided(&mut self, sample: &Sample) -> Result<(), DataError> {
        let Some((len, times)) = self.count(sample, usize::MAX) else { return Ok(()) };
        for _ in 0..times {
            for start in (0..len).step_by(self.seq_len) {
                let part = start..len.min(start + self.seq_len);
                match trained(&sample.labels[part.clone()]) {
                    // One token by itself predicts nothing.
                    0 => self.current().cut_tokens += part.len(),
                    trained => self.keep(sample, part, trained)?,
                }
            }
        }
        Ok(())
    }

    /// Adds a row's sample as its kind asks for.
    pub(crate) fn push_row(&mut self, row: &Row, sample: &Sample) -> Result<(), DataError> {
        match row {
            Row::Document { .. } => self.push_divided(sample),
            _ => self.push(sample),
        }
    }

    fn current(&mut self) -> &mut SampleStats {
        self.stats.last_mut().expect("DatasetBuilder: start_source comes before push")
    }

    /// Counts a row that is cut to `limit` tokens: how many are left, and how often the row is taken; `None` if never.
    fn count(&mut self, sample: &Sample, limit: usize) -> Option<(usize, usize)> {
        assert_eq!(sample.ids.len(), sample.labels.len(), "DatasetBuilder: a sample needs one label per token");
        let rows = self.current().rows;
        let times = self.file.times(rows);
        let stats = self.current();
        stats.rows += 1;
        if times == 0 {
            stats.not_taken += 1;
            return None;
        }
        let full_len = sample.ids.len();
        let kept_len = full_len.min(limit);
        stats.longest = stats.longest.max(full_len);
        stats.unterminated += usize::from(!sample.terminated);
        stats.incomplete += usize::from(!sample.complete);
        stats.truncated += usize::from(full_len > kept_len);
        stats.cut_tokens += full_len - kept_len;
        Some((kept_len, times))
    }

    fn keep(&mut self, sample: &Sample, part: Range<usize>, trained: usize) -> Result<(), DataError> {
        if self.ends.len() >= u32::MAX as usize {
            return Err(DataError::TooManyRows { limit: u32::MAX as usize });
        }
        let stats = self.current();
        stats.kept += 1;
        stats.tokens += part.len();
        stats.trained_tokens += trained;
        self.ids.extend_from_slice(&sample.ids[part.clone()]);
        self.labels.extend_from_slice(&sample.labels[part]);
        self.ends.push(self.ids.len());
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
        if self.ends.is_empty() {
            return Err(DataError::NothingToTrain {
                rows: self.stats.iter().map(|file| file.rows).sum(),
                truncated: self.stats.iter().map(|file| file.truncated).sum(),
                seq_len: self.seq_len,
            });
        }
        self.ids.shrink_to_fit();
        self.labels.shrink_to_fit();
        self.ends.shrink_to_fit();
        let DatasetBuilder { seq_len, ids, labels, ends, stats, .. } = self;
        Ok(Dataset { seq_len, ids, labels, ends, stats })
    }
}

/// All samples of a run.
#[derive(Debug, Clone)]
pub struct Dataset {
    seq_len: usize,
    ids: Vec<u32>,
    labels: Vec<i32>,
    /// Where each sample ends in `ids` and `labels`.
    ends: Vec<usize>,
    stats: Vec<SampleStats>,
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
        for path in paths {
            let path = builder.start_source(path);
            let mut encode = |line, row| {
                let sample = encoder.encode(&row, &Place::new(&path, line))?;
                builder.push_row(&row, &sample)
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
        self.ends.len()
    }

    /// The length that samples were cut to.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Tokens of the longest sample.
    pub fn longest(&self) -> usize {
        self.sample_ids().map(|id| self.sample(id).ids.len()).max().unwrap_or(0)
    }

    /// All samples in file order.
    pub fn sample_ids(&self) -> impl ExactSizeIterator<Item = SampleId> + use<> {
        (0..self.ends.len() as u32).map(SampleId)
    }

    /// One sample.
    pub fn sample(&self, id: SampleId) -> SampleRef<'_> {
        let index = id.0 as usize;
        let start = if index == 0 { 0 } else { self.ends[index - 1] };
        let range = start..self.ends[index];
        SampleRef { ids: &self.ids[range.clone()], labels: &self.labels[range] }
    }

    /// What became of the rows, file by file.
    pub fn stats(&self) -> &[SampleStats] {
        &self.stats
    }

    /// Bytes held, for the memory table.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.ids[..]) + size_of_val(&self.labels[..]) + size_of_val(&self.ends[..])
    }
}
