//! The micro-batches of an update on several ranks, in rounds of one for each rank.
//!
//! Invariants: every rank makes the same calls in the same order; rank 0 alone decides whether the run goes on, and tells it
//! before each round, so that an interrupted run stops everywhere between the same two micro-batches; losses are summed in
//! the order of micro-batches, as in a single process.

use crate::TrainError;
use crate::ranks::gradient_exchange::GradientExchange;
use crate::run::batched_step::BatchedStep;
use crate::run::gradient_watch::GradientWatch;
use crate::run::session::Session;
use remat_comm::{Engine, broadcast, gather_all};
use remat_data::{DataLoader, UpdateBatch};
use remat_plan::DeviceError;

const LOSS_BYTES: usize = size_of::<f64>();

/// This rank among the others of a run.
pub(crate) struct Ranks<'a> {
    engine: &'a dyn Engine,
    gradients: GradientExchange,
    /// What this rank tells the others of an update: whether its batches were conclusive, and its losses.
    told: Vec<u8>,
}

impl<'a> Ranks<'a> {
    /// Of a run under way.
    pub(crate) fn new(engine: &'a dyn Engine, session: &Session) -> Result<Self, DeviceError> {
        let Session { parameters, gradient_sum, step, .. } = session;
        let gradients = GradientExchange::new(engine, parameters, *gradient_sum, step.loaded.device())?;
        Ok(Ranks { engine, gradients, told: Vec::new() })
    }

    /// What rank 0 decides, on all ranks.
    pub(crate) fn decide(&self, goes_on: bool) -> Result<bool, TrainError> {
        let mut decision = [u8::from(goes_on)];
        broadcast(self.engine, 0, &mut decision)?;
        Ok(decision[0] == 1)
    }

    /// The sum of the negative log-likelihoods of all micro-batches of the update after `made` others, whose gradients are
    /// added up on all ranks; `None` if rank 0 was interrupted between two rounds.
    pub(crate) fn run_micro_batches(
        &mut self,
        (step, loader): (&mut BatchedStep, &DataLoader),
        batch: &UpdateBatch,
        made: u64,
        watch: &mut GradientWatch,
        is_interrupted: &dyn Fn() -> bool,
    ) -> Result<Option<f64>, TrainError> {
        let (rank, size, count) = (self.engine.rank(), self.engine.size(), batch.micro_batches());
        self.told.clear();
        self.told.push(0);
        for first in (0..count).step_by(size) {
            if !self.decide(!is_interrupted())? {
                return Ok(None);
            }
            let micro = first + rank;
            if micro < count {
                let loss = step.run_micro(loader, batch, micro, made)?;
                self.told.extend(loss.to_le_bytes());
                watch.see(step.batch());
            }
            self.gradients.add(self.engine, size.min(count - first), step.loaded.device_mut())?;
        }
        self.gradients.finish(self.engine, step.loaded.device_mut())?;
        self.told[0] = u8::from(watch.is_conclusive());
        let told = gather_all(self.engine, &self.told)?;
        watch.conclude(told.iter().any(|told| told[0] == 1));
        let loss = |micro: usize| {
            let bytes = told[micro % size][1..].chunks_exact(LOSS_BYTES).nth(micro / size);
            f64::from_le_bytes(bytes.expect("one of each micro-batch").try_into().expect("eight bytes"))
        };
        let mut sum = 0.0;
        (0..count).for_each(|micro| sum += loss(micro));
        Ok(Some(sum))
    }
}
