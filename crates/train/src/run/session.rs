//! A run whose device is filled: what it computes with. Look next at `prepare`, which makes it, and at `under_way` for what
//! a run is beside it.

use crate::prices::pace::PaceWatch;
use crate::record::lab_record::PlanRecord;
use crate::record::machine::Machine;
use crate::run::batched_step::BatchedStep;
use crate::run::evaluate::EvaluationRows;
use crate::run::sampler::Sampler;
use crate::{Schedule, TrainConfig};
use remat_data::DataLoader;
use remat_ir::{Parameter, StateRole, World};
use remat_model::{Method, Model};

/// Held-out rows and when they are evaluated.
pub(crate) struct Evaluation {
    pub(crate) rows: EvaluationRows,
    pub(crate) every: u64,
}

/// A run whose device is filled.
pub(crate) struct Session {
    pub(crate) config: TrainConfig,
    pub(crate) model: Model,
    pub(crate) method: Method,
    pub(crate) parameters: Vec<Parameter>,
    pub(crate) loader: DataLoader,
    pub(crate) step: BatchedStep,
    pub(crate) evaluation: Option<Evaluation>,
    pub(crate) samples: Option<Sampler>,
    pub(crate) schedule: Schedule,
    pub(crate) total_updates: u64,
    pub(crate) made_updates: u64,
    pub(crate) planned_peak_bytes: u64,
    pub(crate) pace: PaceWatch,
    pub(crate) facts: RunFacts,
    /// Where the gradients of an update are added up.
    pub(crate) gradient_sum: StateRole,
    /// The ranks that train together.
    pub(crate) world: World,
}

impl Session {
    /// Whether a save or the result follows an update that was not interrupted.
    pub(crate) fn is_written(&self, step: u64) -> bool {
        step == self.total_updates || self.config.save_every.is_some_and(|every| step.is_multiple_of(every))
    }
}

/// What the lab record says of a run beside its settings and results.
pub(crate) struct RunFacts {
    pub(crate) machine: Machine,
    pub(crate) total_parameters: usize,
    pub(crate) plan: PlanRecord,
    pub(crate) bound_by: String,
}
