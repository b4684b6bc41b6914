//! Which samples share a line of the batch. Invariants: a sequence is a run of neighbouring samples in file order, and
//! its tokens fit the line; the division is made once, so every epoch has the same number of sequences.
//!
//! Packing is greedy and in order: a sample opens a new sequence when it no longer fits the current one. O(samples).

use crate::DataError;
use crate::dataset::{Dataset, SampleId};
use crate::words::{Fingerprint, MEMORY_WORDS, Words};
use std::collections::BTreeMap;

/// One line of a batch: one sample, or several packed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u32);

/// The sequences of a dataset.
#[derive(Debug, Clone)]
pub struct Sequences {
    /// The first sample of each packed sequence and, at the end, the number of samples; `None`: one sample each.
    starts: Option<Words>,
    len: usize,
    /// How many sequences have how many tokens.
    lengths: BTreeMap<usize, usize>,
}

impl Sequences {
    /// One sample per sequence.
    ///
    /// # Errors
    /// Long data that cannot be read or written.
    pub fn unpacked(dataset: &Dataset) -> Result<Self, DataError> {
        let mut lengths = BTreeMap::new();
        for id in dataset.sample_ids() {
            *lengths.entry(dataset.entry(id)?.tokens).or_default() += 1;
        }
        Ok(Sequences { starts: None, len: dataset.len(), lengths })
    }

    /// Neighbouring samples share a sequence of at most `seq_len` tokens.
    ///
    /// # Errors
    /// As [`unpacked`](Self::unpacked).
    ///
    /// Panics if `seq_len` is less than the longest sample.
    pub fn packed(dataset: &Dataset, seq_len: usize) -> Result<Self, DataError> {
        let mut starts = Words::new(dataset.folder(), MEMORY_WORDS);
        let mut lengths = BTreeMap::new();
        let mut used = 0;
        for id in dataset.sample_ids() {
            let tokens = dataset.entry(id)?.tokens;
            assert!(tokens <= seq_len, "Sequences: sample {} has {tokens} tokens, a line only {seq_len}", id.0);
            if used + tokens > seq_len {
                *lengths.entry(used).or_default() += 1;
                used = 0;
            }
            if used == 0 {
                starts.push([id.0].into_iter())?;
            }
            used += tokens;
        }
        *lengths.entry(used).or_default() += 1;
        let len = starts.len() as usize;
        starts.push([dataset.len() as u32].into_iter())?;
        starts.finish()?;
        Ok(Sequences { starts: Some(starts), len, lengths })
    }

    /// How many sequences have how many tokens, the shortest first.
    pub fn lengths(&self) -> &BTreeMap<usize, usize> {
        &self.lengths
    }

    /// How many sequences there are; at least one.
    #[allow(clippy::len_without_is_empty)] // A dataset is never empty.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The samples of one sequence, in file order.
    ///
    /// # Errors
    /// Long data that cannot be read any more.
    pub fn samples(&self, id: SequenceId) -> Result<impl Iterator<Item = SampleId> + use<>, DataError> {
        let index = id.0 as usize;
        assert!(index < self.len, "Sequences: there are {}, not number {index}", self.len);
        let range = match &self.starts {
            Some(starts) => {
                let mut ends = [0; 2];
                starts.read(u64::from(id.0), &mut ends)?;
                ends[0]..ends[1]
            }
            None => id.0..id.0 + 1,
        };
        Ok(range.map(SampleId))
    }

    /// A number that changes with any token, label or boundary of a sample or sequence. It tells other data from the same
    /// data on resume.
    ///
    /// # Errors
    /// As [`samples`](Self::samples).
    pub fn fingerprint(&self, dataset: &Dataset) -> Result<u64, DataError> {
        let mut fingerprint = Fingerprint::new();
        let mut mix = |word| fingerprint.mix(word);
        for sequence in (0..self.len as u32).map(SequenceId) {
            mix(self.samples(sequence)?.count() as u32);
            for sample in self.samples(sequence)? {
                let entry = dataset.entry(sample)?;
                mix(entry.tokens as u32);
                dataset.each_token(entry, &mut |_, id, _| mix(id))?;
                dataset.each_token(entry, &mut |_, _, label| mix(label as u32))?;
            }
        }
        Ok(fingerprint.0)
    }

    /// Bytes held, for the memory table.
    pub fn bytes(&self) -> usize {
        self.starts.as_ref().map_or(0, Words::bytes)
    }
}
