//! One micro-batch of a fixed shape [B, T], row-major. Invariants: the shape never changes, so neither does the memory;
//! attention may look at key position j from query position t exactly if `segment_start[t]` ≤ j ≤ t, which keeps
//! packed samples apart and padding away from everything; no target lies in another segment than its input.
//!
//! ```text
//! two samples a b c | d e packed into T = 7
//! ids            a  b  c  d  e  0  0
//! targets        b  c  ·  e  ·  ·  ·      · = -100: a segment's last token predicts nothing
//! positions      0  1  2  0  1  0  1
//! segment_start  0  0  0  3  3  5  5      the padding is a segment of its own
//! attention_mask 1  1  1  1  1  0  0
//! ```

use crate::DataError;
use crate::dataset::{Dataset, SampleId};
use crate::packing::{SequenceId, Sequences};
use crate::tokens::IGNORED_LABEL;

/// The inputs of one micro-step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    batch_size: usize,
    seq_len: usize,
    /// Token ids [B, T]; 0 in the padding.
    pub ids: Vec<i32>,
    /// What each position predicts [B, T]: the next token's label; -100 where nothing is trained.
    pub targets: Vec<i32>,
    /// Position of each token within its segment [B, T], counted from 0.
    pub positions: Vec<i32>,
    /// Index within the line of the first token of the segment that each position belongs to [B, T].
    pub segment_start: Vec<i32>,
    /// 0 in the padding, 1 elsewhere [B, T].
    pub attention_mask: Vec<i32>,
    /// Tokens that are not padding.
    pub tokens: usize,
    /// Targets that are not -100.
    pub trained: usize,
}

impl Batch {
    /// An empty batch: padding only.
    pub fn new(batch_size: usize, seq_len: usize) -> Self {
        let cells = batch_size * seq_len;
        let mut batch = Batch {
            batch_size,
            seq_len,
            ids: vec![0; cells],
            targets: vec![0; cells],
            positions: vec![0; cells],
            segment_start: vec![0; cells],
            attention_mask: vec![0; cells],
            tokens: 0,
            trained: 0,
        };
        (0..batch_size).for_each(|line| batch.pad(line, 0));
        batch
    }

    /// B, the number of lines.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// T, the tokens of a line.
    pub fn seq_len(&self) -> usize {
        self.seq_len
    }

    /// Bytes of a batch of this shape, for the memory table.
    pub fn bytes_of(batch_size: usize, seq_len: usize) -> usize {
        5 * size_of::<i32>() * batch_size * seq_len
    }

    /// Replaces the content: one sequence per line; lines without one are padding. Allocates nothing.
    ///
    /// # Errors
    /// A file of long data that cannot be read any more.
    ///
    /// Panics if there are more sequences than lines, or if a sequence is longer than a line.
    pub fn fill(&mut self, dataset: &Dataset, sequences: &Sequences, chosen: &[SequenceId]) -> Result<(), DataError> {
        assert!(chosen.len() <= self.batch_size, "Batch: {} sequences, {} lines", chosen.len(), self.batch_size);
        (self.tokens, self.trained) = (0, 0);
        for line in 0..self.batch_size {
            let mut used = 0;
            if let Some(&sequence) = chosen.get(line) {
                for sample in sequences.samples(sequence)? {
                    used = self.place(line, used, dataset, sample)?;
                }
            }
            self.tokens += used;
            self.pad(line, used);
        }
        Ok(())
    }

    /// Writes a sample as a segment that starts at `start` of a line; returns where it ends.
    fn place(&mut self, line: usize, start: usize, dataset: &Dataset, sample: SampleId) -> Result<usize, DataError> {
        let entry = dataset.entry(sample)?;
        let end = start + entry.tokens;
        assert!(end <= self.seq_len, "Batch: a sequence needs {end} tokens, a line has {}", self.seq_len);
        let cells = line * self.seq_len + start..line * self.seq_len + end;
        let (ids, targets) = (&mut self.ids[cells.clone()], &mut self.targets[cells.clone()]);
        dataset.each_token(entry, &mut |position, id, label| {
            ids[position] = id as i32;
            if let Some(before) = position.checked_sub(1) {
                targets[before] = label;
            }
        })?;
        targets[entry.tokens - 1] = IGNORED_LABEL;
        self.trained += entry.trained;
        self.attention_mask[cells.clone()].fill(1);
        self.mark_segment(cells, start);
        Ok(end)
    }

    fn pad(&mut self, line: usize, start: usize) {
        let cells = line * self.seq_len + start..(line + 1) * self.seq_len;
        self.ids[cells.clone()].fill(0);
        self.targets[cells.clone()].fill(IGNORED_LABEL);
        self.attention_mask[cells.clone()].fill(0);
        self.mark_segment(cells, start);
    }

    fn mark_segment(&mut self, cells: std::ops::Range<usize>, start: usize) {
        for (position, cell) in self.positions[cells.clone()].iter_mut().enumerate() {
            *cell = position as i32;
        }
        self.segment_start[cells].fill(start as i32);
    }
}
