//! Which samples share a line of the batch. Invariants: a sequence is a run of neighbouring samples in file order, and
//! its tokens fit the line; the division is made once, so every epoch has the same number of sequences.
//!
//! Packing is greedy and in order: a sample opens a new sequence when it no longer fits the current one. O(samples).

use crate::dataset::{Dataset, SampleId};

/// One line of a batch: one sample, or several packed ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub u32);

/// The sequences of a dataset.
#[derive(Debug, Clone)]
pub struct Sequences {
    /// The first sample of each packed sequence and, at the end, the number of samples; `None`: one sample each.
    starts: Option<Vec<u32>>,
    len: usize,
}

impl Sequences {
    /// One sample per sequence.
    pub fn unpacked(dataset: &Dataset) -> Self {
        Sequences { starts: None, len: dataset.len() }
    }

    /// Neighbouring samples share a sequence of at most `seq_len` tokens.
    ///
    /// Panics if `seq_len` is less than the longest sample.
    pub fn packed(dataset: &Dataset, seq_len: usize) -> Self {
        let mut starts = Vec::new();
        let mut used = seq_len;
        for id in dataset.sample_ids() {
            let tokens = dataset.sample(id).ids.len();
            assert!(tokens <= seq_len, "Sequences: sample {} has {tokens} tokens, a line only {seq_len}", id.0);
            if used + tokens > seq_len {
                starts.push(id.0);
                used = 0;
            }
            used += tokens;
        }
        let len = starts.len();
        starts.push(dataset.len() as u32);
        starts.shrink_to_fit();
        Sequences { starts: Some(starts), len }
    }

    /// How many sequences there are; at least one.
    #[allow(clippy::len_without_is_empty)] // A dataset is never empty.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The samples of one sequence, in file order.
    pub fn samples(&self, id: SequenceId) -> impl Iterator<Item = SampleId> + use<> {
        let index = id.0 as usize;
        assert!(index < self.len, "Sequences: there are {}, not number {index}", self.len);
        let range = match &self.starts {
            Some(starts) => starts[index]..starts[index + 1],
            None => id.0..id.0 + 1,
        };
        range.map(SampleId)
    }

    /// A number that changes with any token, label or boundary of a sample or sequence: FNV-1a over 32-bit words. It
    /// tells other data from the same data on resume; it is no defence against forgery.
    pub fn fingerprint(&self, dataset: &Dataset) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        let mut mix = |word: u32| hash = (hash ^ u64::from(word)).wrapping_mul(0x0100_0000_01b3);
        for sequence in (0..self.len as u32).map(SequenceId) {
            mix(self.samples(sequence).count() as u32);
            for sample in self.samples(sequence).map(|id| dataset.sample(id)) {
                mix(sample.ids.len() as u32);
                sample.ids.iter().for_each(|&token| mix(token));
                sample.labels.iter().for_each(|&label| mix(label as u32));
            }
        }
        hash
    }

    /// Bytes held, for the memory table.
    pub fn bytes(&self) -> usize {
        self.starts.as_ref().map_or(0, |starts| size_of_val(&starts[..]))
    }
}
