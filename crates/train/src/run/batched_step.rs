//! A loaded step with the batches that it reads: micro-batches by length, one key per micro-batch, one number per update.
//!
//! Invariant: nothing here allocates. The cotangent of the loss is 1/N with N the trained tokens of the whole update, so the
//! sum over micro-batches is the gradient of the mean, whatever the accumulation. Look next at the crate `step`.

use crate::TrainError;
use remat_data::{Batch, DataLoader, IGNORED_LABEL, UpdateBatch};
use remat_model::NEXT_TOKEN;
use remat_step::{LoadedStep, StepError, Tokens};

/// All programs, loaded, and a batch for each micro-step.
pub(crate) struct BatchedStep {
    pub(crate) loaded: LoadedStep,
    /// The shortest first; the last is the longest, which every micro-batch fits.
    batches: Vec<Batch>,
    /// Index of the micro-step that ran last.
    used: usize,
    /// Key of the random ops.
    seed: u64,
}

/// A batch as a step takes it.
pub(crate) fn tokens(batch: &Batch) -> Tokens<'_> {
    let Batch { ids, targets, positions, segment_start, attention_mask, .. } = batch;
    Tokens { ids, targets, positions, segment_start, attention_mask }
}

impl BatchedStep {
    /// Of micro-steps with a batch each, the shortest first.
    pub(crate) fn new(loaded: LoadedStep, batches: Vec<Batch>, seed: u64) -> Self {
        BatchedStep { loaded, batches, used: 0, seed }
    }

    /// Index of the longest micro-step.
    pub(crate) fn longest(&self) -> usize {
        self.batches.len() - 1
    }

    /// The micro-batch that ran last.
    pub(crate) fn batch(&self) -> &Batch {
        &self.batches[self.used]
    }

    /// Runs the longest micro-step on padding, which adds zeros to the gradients: whatever memory or time the longest
    /// batch takes, it takes now and not in the middle of a run.
    pub(crate) fn rehearse(&mut self) -> Result<(), TrainError> {
        let longest = self.longest();
        self.loaded.set_tokens(longest, tokens(&self.batches[longest]))?;
        Ok(self.loaded.micro(longest, 0.0, [0; 4])?)
    }

    /// Runs one micro-batch of the update after `made` others, whose gradients are to be added to the sums, and returns the
    /// sum of its negative log-likelihoods.
    pub(crate) fn run_micro(
        &mut self,
        loader: &DataLoader,
        update: &UpdateBatch,
        micro: usize,
        made: u64,
    ) -> Result<f64, TrainError> {
        self.fill(loader, update, micro)?;
        self.run(update.trained, micro, made)
    }

    /// The loss of one line of a micro-batch, `(micro-batch, line)`, the others masked. Its gradients are added, too.
    pub(crate) fn loss_of_line(
        &mut self,
        loader: &DataLoader,
        update: &UpdateBatch,
        (micro, line): (usize, usize),
        made: u64,
    ) -> Result<f64, TrainError> {
        self.fill(loader, update, micro)?;
        let batch = &mut self.batches[self.used];
        let (seq_len, targets) = (batch.seq_len(), &mut batch.targets);
        let others = targets.chunks_mut(seq_len).enumerate().filter(|(other, _)| *other != line);
        others.for_each(|(_, targets)| targets.fill(IGNORED_LABEL));
        self.run(update.trained, micro, made)
    }

    /// Fills the smallest batch that a micro-batch fits.
    fn fill(&mut self, loader: &DataLoader, update: &UpdateBatch, micro: usize) -> Result<(), TrainError> {
        let longest = loader.longest_of(update, micro)?;
        let fits = self.batches.iter().position(|batch| batch.seq_len() >= longest);
        self.used = fits.expect("the longest fits all");
        Ok(loader.fill(update, micro, &mut self.batches[self.used])?)
    }

    /// Runs the batch that was filled last.
    fn run(&mut self, trained: usize, micro: usize, made: u64) -> Result<f64, TrainError> {
        self.loaded.set_tokens(self.used, tokens(&self.batches[self.used]))?;
        let key = [self.seed as u32, (self.seed >> 32) as u32, made as u32, micro as u32];
        let dloss = NEXT_TOKEN.dloss(trained);
        self.loaded.micro(self.used, dloss, key).map_err(|error| in_update(error, made))?;
        Ok(f64::from(self.loaded.loss(self.used)?))
    }

    /// Adds the gradients of the micro-batch that has just run to the sums of the update after `made` others.
    pub(crate) fn accumulate(&mut self, made: u64) -> Result<(), TrainError> {
        self.loaded.accumulate().map_err(|error| in_update(error, made))
    }

    /// The same after a round of several ranks, of which the first `present` have run a micro-batch.
    pub(crate) fn accumulate_round(&mut self, present: usize, made: u64) -> Result<(), TrainError> {
        self.loaded.accumulate_round(present).map_err(|error| in_update(error, made))
    }

    /// Updates all parameters by their accumulated gradients, zeroes those, and returns their norm before clipping.
    /// `made` updates were made before.
    pub(crate) fn run_update(&mut self, lr: f64, made: u64) -> Result<f64, TrainError> {
        let norm = self.loaded.update(lr as f32, (made + 1) as i32).map_err(|error| in_update(error, made))?;
        Ok(f64::from(norm))
    }
}

/// A difference that validation found, with the update that it was found in.
fn in_update(error: StepError, made: u64) -> TrainError {
    match error {
        StepError::Differs(problem) => TrainError::Invalid { step: made + 1, problem },
        error => error.into(),
    }
}
