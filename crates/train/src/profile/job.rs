//! What a profile measures. Invariant: everything that the figures depend on is in the job.

use crate::TrainError;
use crate::plan::planning::Limits;
use remat_data::Batch;
use remat_model::{BatchShape, Method, Model};
use remat_plan::{Policy, Prices, SpillPrices};
use remat_step::{AdamWSettings, DeviceOptions, Optimizer, TrainingStep, UpdateRule};
use std::path::Path;

/// What to measure.
pub struct ProfileJob<'a> {
    /// The model folder.
    pub model: &'a Model,
    /// What is trained.
    pub method: &'a Method,
    /// Shape of a micro-batch.
    pub shape: BatchShape,
    /// The tokens of the steps; random ones without it.
    pub batch: Option<&'a Batch>,
    /// The policies, in the order of the rows.
    pub policies: &'a [Policy],
    /// Counted steps of each.
    pub repeats: usize,
    /// Threads and instruction level.
    pub options: DeviceOptions,
    /// What the policy auto has to fit into; without it, auto keeps everything.
    pub limits: Limits,
    /// What operations cost; without it, this machine's prices, from the cache or measured.
    pub prices: Option<Prices>,
    /// Where auto may offload to, and what that costs there.
    pub spill: Option<(&'a Path, SpillPrices)>,
}

impl ProfileJob<'_> {
    /// Forward, backward and update.
    pub(crate) fn step(&self) -> Result<TrainingStep, TrainError> {
        let training = self.model.training(self.method, self.shape)?;
        let rule = UpdateRule::of(Optimizer::AdamW(AdamWSettings::default()));
        Ok(TrainingStep::new(training, Some(&rule))?)
    }
}
