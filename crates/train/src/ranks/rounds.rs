//! The micro-batches of an update on several ranks, in rounds of one for each rank.
//!
//! Invariants: every rank makes the same calls in the same order; rank 0 alone decides what happens next, and tells it before each
//! round, so that an interrupted run stops everywhere between the same two micro-batches; losses are summed in the order of
//! micro-batches, as in a single process. What moves gradients and parameters is in the plans.

use crate::folder::saved_states::SavedState;
use crate::ranks::same_bytes::SameBytes;
use crate::ranks::whole_states::{self, WholeStates};
use crate::run::batched_step::BatchedStep;
use crate::run::gradient_watch::GradientWatch;
use crate::run::session::Session;
use crate::{Checks, TrainError};
use remat_comm::{Engine, broadcast, gather_all};
use remat_data::{DataLoader, UpdateBatch};
use remat_plan::Device;

const LOSS_BYTES: usize = size_of::<f64>();

/// What rank 0 has all ranks do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The update, or its next round.
    GoOn,
    /// Not this update; or, before one, nothing any more.
    Stop,
    /// Send rank 0 what they have of the states that it saves.
    SendStates,
}

impl Next {
    const ALL: [Next; 3] = [Next::GoOn, Next::Stop, Next::SendStates];
}

/// This rank among the others of a run.
pub(crate) struct Ranks<'a> {
    engine: &'a dyn Engine,
    same: SameBytes,
    /// The host of each rank.
    hosts: Vec<String>,
    /// What this rank tells the others of an update: whether its batches were conclusive, and its losses.
    told: Vec<u8>,
}

impl<'a> Ranks<'a> {
    /// Of a run under way, whose saves hold `states`.
    pub(crate) fn new(
        engine: &'a dyn Engine,
        session: &Session,
        states: &[SavedState],
        checks: Checks,
    ) -> Result<Self, TrainError> {
        let same = SameBytes::of(session, states, checks.compare_ranks_every)?;
        let hosts = gather_all(engine, engine.host().as_bytes())?;
        let hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        Ok(Ranks { engine, same, hosts, told: Vec::new() })
    }

    /// What joins them.
    pub(crate) fn engine(&self) -> &'a dyn Engine {
        self.engine
    }

    /// The host of each rank.
    pub(crate) fn hosts(&self) -> &[String] {
        &self.hosts
    }

    /// Holds what all ranks loaded to the others'.
    pub(crate) fn begin(&self, session: &Session) -> Result<(), TrainError> {
        self.same.compare(self.engine, session.step.loaded.device(), session.made_updates)
    }

    /// Before an update, which hands what a parameter's owner has to all others: the parameters again, if that takes little or it
    /// is time for it.
    pub(crate) fn compare_parameters(&self, device: &dyn Device, made: u64) -> Result<(), TrainError> {
        self.same.compare_parameters(self.engine, device, made)
    }

    /// After an update: everything again, if it is time for it or something is written.
    pub(crate) fn compare(&self, session: &Session) -> Result<(), TrainError> {
        let made = session.made_updates;
        if self.same.is_due(made) || session.is_written(made) { self.begin(session) } else { Ok(()) }
    }

    /// What rank 0 decides, on all ranks.
    pub(crate) fn decide(&self, next: Next) -> Result<Next, TrainError> {
        let mut decision = [next as u8];
        broadcast(self.engine, 0, &mut decision)?;
        Ok(Next::ALL.get(usize::from(decision[0])).copied().unwrap_or(Next::Stop))
    }

    /// On rank 0: has the others send what they have of `states`, for one reading of them.
    pub(crate) fn whole_states<'b>(
        &self,
        states: &'b [SavedState],
        device: &'b dyn Device,
    ) -> Result<WholeStates<'b>, TrainError>
    where
        'a: 'b,
    {
        self.decide(Next::SendStates)?;
        Ok(WholeStates::new(states, device, Some(self.engine)))
    }

    /// On the others: sends it.
    pub(crate) fn send_states(&self, states: &[SavedState], device: &dyn Device) -> Result<(), TrainError> {
        whole_states::send(states, device, self.engine)
    }

    /// The sum of the negative log-likelihoods of all micro-batches of the update after `made` others, whose gradients are
    /// added up by their owners; `None` if rank 0 was interrupted between two rounds.
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
            let next = if is_interrupted() { Next::Stop } else { Next::GoOn };
            if self.decide(next)? != Next::GoOn {
                return Ok(None);
            }
            let micro = first + rank;
            if micro < count {
                let loss = step.run_micro(loader, batch, micro, made)?;
                self.told.extend(loss.to_le_bytes());
                watch.see(step.batch());
            }
            step.accumulate_round(size.min(count - first), made)?;
        }
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
