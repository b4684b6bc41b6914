//! All samples of a run, cut to `seq_len`, in three flat arrays. Invariants: every sample has 2 to `seq_len` tokens
//! and at least one trained label that is predicted; whatever was cut or left out is in the file's `SampleStats`.
//!
//! Position 0 is never predicted (the model predicts token t + 1 at t), so its label does not count as trained.

use crate::encode::{Encoder, IGNORED_LABEL, Sample};
use crate::error::Place;
use crate::jsonl::read_rows_hashed;
use crate::{DataError, RowKind};
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
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SampleStats {
    /// The file.
    pub path: PathBuf,
    /// SHA-256 of what was read of it; `None` for samples that were never in a file.
    pub sha256: Option<String>,
    /// Its format; `None` for samples that were never rows.
    pub kind: Option<RowKind>,
    /// Rows read.
    pub rows: usize,
    /// Rows longer than `seq_len`, cut at the end.
    pub truncated: usize,
    /// Tokens that those cuts removed.
    pub cut_tokens: usize,
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
}

impl DatasetBuilder {
    /// An empty collection; samples will be cut to `seq_len` tokens.
    pub fn new(seq_len: usize) -> Result<Self, DataError> {
        if seq_len < 2 {
            return Err(DataError::SeqLen { seq_len });
        }
        Ok(DatasetBuilder { seq_len, ids: Vec::new(), labels: Vec::new(), ends: Vec::new(), stats: Vec::new() })
    }

    /// Starts the counts of one source; the samples pushed next belong to it.
    pub fn start_source(&mut self, path: &Path) {
        self.stats.push(SampleStats {
            path: path.to_path_buf(),
            sha256: None,
            kind: None,
            rows: 0,
            truncated: 0,
            cut_tokens: 0,
            dropped: 0,
            unterminated: 0,
            incomplete: 0,
            longest: 0,
            tokens: 0,
            trained_tokens: 0,
        });
    }

    /// Adds a sample to the current source, cut to `seq_len`; one without a trained token is counted and left out.
    ///
    /// Panics before the first `start_source`, and if the sample's labels are not one per token.
    pub fn push(&mut self, sample: &Sample) -> Result<(), DataError> {
        assert_eq!(sample.ids.len(), sample.labels.len(), "DatasetBuilder: a sample needs one label per token");
        let stats = self.stats.last_mut().expect("DatasetBuilder: start_source comes before push");
        let full_len = sample.ids.len();
        let kept_len = full_len.min(self.seq_len);
        stats.rows += 1;
        stats.longest = stats.longest.max(full_len);
        stats.unterminated += usize::from(!sample.terminated);
        stats.incomplete += usize::from(!sample.complete);
        stats.truncated += usize::from(full_len > kept_len);
        stats.cut_tokens += full_len - kept_len;
        let labels = &sample.labels[..kept_len];
        let trained = trained(labels);
        if trained == 0 {
            stats.dropped += 1;
            return Ok(());
        }
        if self.ends.len() >= u32::MAX as usize {
            return Err(DataError::TooManyRows { limit: u32::MAX as usize });
        }
        stats.tokens += kept_len;
        stats.trained_tokens += trained;
        self.ids.extend_from_slice(&sample.ids[..kept_len]);
        self.labels.extend_from_slice(labels);
        self.ends.push(self.ids.len());
        Ok(())
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
        let DatasetBuilder { seq_len, ids, labels, ends, stats } = self;
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
    pub fn load(paths: &[PathBuf], encoder: &Encoder<'_>, seq_len: usize) -> Result<Dataset, DataError> {
        if paths.is_empty() {
            return Err(DataError::NoFiles);
        }
        let mut builder = DatasetBuilder::new(seq_len)?;
        for path in paths {
            builder.start_source(path);
            let (kind, sha256) =
                read_rows_hashed(path, &mut |line, row| builder.push(&encoder.encode(&row, &Place::new(path, line))?))?;
            let stats = builder.stats.last_mut().expect("a source was started");
            (stats.kind, stats.sha256) = (Some(kind), Some(sha256));
        }
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
