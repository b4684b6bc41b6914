//! The data of optimizer updates, one after the other. Invariants: an update's trained tokens are known before its
//! first micro-batch (the loss is divided by them once); an epoch has ceil(sequences / (batch × accumulation)) updates
//! and the last may be smaller, as in Hugging Face's Trainer; the state between two updates is a `SamplerState`.

use crate::DataError;
use crate::batch::Batch;
use crate::dataset::Dataset;
use crate::order::{Order, Sampler, SamplerState};
use crate::packing::{SequenceId, Sequences};
use std::collections::BTreeMap;

/// How a dataset is fed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoaderOptions {
    /// Lines of a micro-batch.
    pub batch_size: usize,
    /// Micro-batches of an update.
    pub grad_accum: usize,
    /// Whether neighbouring samples share a line.
    pub packing: bool,
    /// The order of sequences.
    pub order: Order,
}

/// The sequences of one optimizer update.
#[derive(Debug, Clone, PartialEq)]
pub struct UpdateBatch {
    sequences: Vec<SequenceId>,
    batch_size: usize,
    /// Tokens of all its micro-batches, padding not counted.
    pub tokens: usize,
    /// Targets of all its micro-batches that are trained on: what the loss is divided by; at least 1.
    pub trained: usize,
    /// Epochs done once this update is made, with the current one's part.
    pub epoch: f64,
}

impl UpdateBatch {
    /// How many micro-batches hold data: the accumulation count, or fewer at the end of an epoch. A micro-batch of
    /// padding alone would add nothing to any gradient, so there is none.
    pub fn micro_batches(&self) -> usize {
        self.sequences.len().div_ceil(self.batch_size)
    }

    /// The sequences of one micro-batch.
    pub fn sequences(&self, micro_batch: usize) -> &[SequenceId] {
        let start = micro_batch * self.batch_size;
        &self.sequences[start..self.sequences.len().min(start.saturating_add(self.batch_size))]
    }
}

/// Gives updates in order, and their micro-batches.
#[derive(Debug, Clone)]
pub struct DataLoader {
    dataset: Dataset,
    sequences: Sequences,
    sampler: Sampler,
    batch_size: usize,
    sequences_per_update: usize,
}

impl DataLoader {
    /// Starts at the first update of epoch 0.
    pub fn new(dataset: Dataset, options: LoaderOptions) -> Result<Self, DataError> {
        let LoaderOptions { batch_size, grad_accum, packing, order } = options;
        if batch_size == 0 {
            return Err(DataError::Zero { key: "batch-size" });
        }
        if grad_accum == 0 {
            return Err(DataError::Zero { key: "grad-accum" });
        }
        let sequences =
            if packing { Sequences::packed(&dataset, dataset.seq_len())? } else { Sequences::unpacked(&dataset)? };
        let sampler = Sampler::new(sequences.len(), order, sequences.fingerprint(&dataset)?);
        // More than an epoch is never taken at once, so absurd products cost nothing.
        let sequences_per_update = batch_size.saturating_mul(grad_accum).min(sequences.len());
        Ok(DataLoader { dataset, sequences, sampler, batch_size, sequences_per_update })
    }

    /// The samples.
    pub fn dataset(&self) -> &Dataset {
        &self.dataset
    }

    /// How samples share lines.
    pub fn sequences(&self) -> &Sequences {
        &self.sequences
    }

    /// Updates of one epoch.
    pub fn updates_per_epoch(&self) -> usize {
        self.sequences.len().div_ceil(self.sequences_per_update)
    }

    /// Tokens of the longest sequence: the least T that fits all of them.
    pub fn longest_sequence(&self) -> usize {
        self.sequences.lengths().last_key_value().map_or(0, |(&tokens, _)| tokens)
    }

    /// How many sequences have how many tokens, the shortest first.
    pub fn sequence_lengths(&self) -> &BTreeMap<usize, usize> {
        self.sequences.lengths()
    }

    /// Tokens of the longest sequence of a micro-batch of an update.
    ///
    /// # Errors
    /// Long data that cannot be read any more.
    pub fn longest_of(&self, update: &UpdateBatch, micro_batch: usize) -> Result<usize, DataError> {
        let mut longest = 0;
        for &sequence in update.sequences(micro_batch) {
            let mut tokens = 0;
            for sample in self.sequences.samples(sequence)? {
                tokens += self.dataset.entry(sample)?.tokens;
            }
            longest = longest.max(tokens);
        }
        Ok(longest)
    }

    /// A buffer for [`next_update`](Self::next_update).
    pub fn update_buffer(&self) -> UpdateBatch {
        let sequences = Vec::with_capacity(self.sequences_per_update);
        UpdateBatch { sequences, batch_size: self.batch_size, tokens: 0, trained: 0, epoch: 0.0 }
    }

    /// Replaces `update` by the next one. Allocates nothing if `update` is this loader's buffer.
    ///
    /// # Errors
    /// Long data that cannot be read any more.
    pub fn next_update(&mut self, update: &mut UpdateBatch) -> Result<(), DataError> {
        update.sequences.clear();
        update.batch_size = self.batch_size;
        self.sampler.take(self.sequences_per_update, &mut update.sequences);
        (update.tokens, update.trained) = (0, 0);
        for &sequence in &update.sequences {
            for sample in self.sequences.samples(sequence)? {
                let entry = self.dataset.entry(sample)?;
                update.tokens += entry.tokens;
                update.trained += entry.trained;
            }
        }
        update.epoch = self.sampler.epochs_done();
        Ok(())
    }

    /// Fills `batch` with one micro-batch of an update. Allocates nothing.
    ///
    /// # Errors
    /// Long data that cannot be read any more.
    pub fn fill(&self, update: &UpdateBatch, micro_batch: usize, batch: &mut Batch) -> Result<(), DataError> {
        batch.fill(&self.dataset, &self.sequences, update.sequences(micro_batch))
    }

    /// The position of the next update, to be saved with the run after an update is made.
    pub fn state(&self) -> SamplerState {
        self.sampler.state()
    }

    /// Goes to a saved position. An error if it was saved with other data.
    pub fn restore(&mut self, state: &SamplerState) -> Result<(), DataError> {
        self.sampler.restore(state)
    }

    /// Goes back to the first update of epoch 0, as evaluation does before each pass.
    pub fn rewind(&mut self) {
        self.sampler.rewind();
    }

    /// Bytes held between updates, for the memory table: samples, sequences and their order, an update's buffer.
    pub fn bytes(&self) -> usize {
        let update = self.sequences_per_update * size_of::<SequenceId>();
        self.dataset.bytes() + self.sequences.bytes() + self.sampler.bytes() + update
    }
}
