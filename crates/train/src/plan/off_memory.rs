//! The plans of a run whose weights and states do not all stay in memory: what the compiler leaves out of it, all plans do.
//!
//! Invariant: the account of what is returned is within all limits; every plan of the run keeps the same of them in the files,
//! so that evaluation, samples and saves hold the promise, too. Look next at `planning`, which asks where nothing else fits.

use crate::plan::limit_owner::LimitOwner;
use crate::plan::memory::Buffers;
use crate::plan::planning::{Limit, Limits, MicroStepProblem, OtherGraphs, PlannedStep};
use crate::plan::state_levels::TrainingStates;
use crate::{MemoryAccount, TrainConfig, TrainError};
use remat_compiler::{
    CompileError, OffMemoryPlans, Pinned, WeightsOffMemory, compile_or_smallest, simplify, with_weights_off_memory,
};
use remat_ir::Graph;
use remat_plan::{DeviceProfile, MemoryDomain, Plan};
use remat_step::LoadedForward;
use std::collections::HashSet;
use std::sync::Arc;

/// Where a state may begin in a file.
const BLOCK_BYTES: usize = 4096;

/// How often plans are made anew because the account overshot.
const ATTEMPTS: usize = 6;

/// What is planned, and for what.
pub(crate) struct OffMemory<'a> {
    pub(crate) config: &'a TrainConfig,
    pub(crate) micro_step: &'a MicroStepProblem<'a>,
    /// The update, and what adds micro-batches up if that is a plan of its own.
    pub(crate) of_update: (&'a Plan, Option<&'a Plan>),
    pub(crate) beside: &'a OtherGraphs,
    pub(crate) profile: &'a DeviceProfile,
    pub(crate) buffers: Buffers,
    pub(crate) limits: Limits,
}

impl<'a> OffMemory<'a> {
    /// What there is to choose from, with these states off memory.
    pub(crate) fn choice(&self, states: Option<HashSet<String>>) -> OffMemoryPlans<'a> {
        let MicroStepProblem { problem, pinned, .. } = self.micro_step;
        problem.off_memory(&self.config.checkpointing, &Pinned { states, ..pinned.clone() })
    }

    /// Those of some states that a micro-step has.
    pub(crate) fn of_micro(&self, states: &HashSet<String>) -> HashSet<String> {
        let values = &self.micro_step.problem.graph().values;
        values.iter().map(|value| &value.name).filter(|name| states.contains(*name)).cloned().collect()
    }

    /// The training states of all plans.
    pub(crate) fn states(&self) -> TrainingStates<'a> {
        let (update, accumulation) = self.of_update;
        let of_update = std::iter::once(update).chain(accumulation).map(|plan| &*plan.graph);
        TrainingStates::of(&of_update.chain([self.micro_step.problem.graph()]).collect::<Vec<_>>())
    }

    /// The fastest plans that were found within the limits, with all states in memory.
    ///
    /// # Errors
    /// Limits that no plan meets, with what the smallest takes; what cannot be compiled.
    pub(crate) fn plans(&self) -> Result<PlannedStep, TrainError> {
        self.plans_of(&self.choice(None), &HashSet::new())
    }

    /// The same of a choice that was made with these states off memory.
    pub(crate) fn plans_of(
        &self,
        choice: &OffMemoryPlans<'_>,
        states: &HashSet<String>,
    ) -> Result<PlannedStep, TrainError> {
        let (profile, problem) = (self.profile, &self.micro_step.problem);
        let domain = profile.tensor_domain();
        let unlimited = Limit { bytes: usize::MAX, whose: LimitOwner::Process };
        let limit = self.limits.in_domain(domain).unwrap_or(unlimited);
        let disk = self.limits.in_domain(MemoryDomain::Disk);
        let file_bytes = disk.map_or(usize::MAX, |limit| limit.bytes);
        let OtherGraphs { shorter, evaluation, generation } = self.beside;
        let (update, accumulation) = self.of_update;
        let of_update = std::iter::once(update).chain(accumulation).map(|plan| &*plan.graph);
        let others = of_update.chain(shorter).chain(evaluation).chain(generation);
        let graphs: Vec<&Graph> = std::iter::once(problem.graph()).chain(others).collect();
        let state_bytes = |alignment_bytes| match states.is_empty() {
            true => 0,
            false => self.states().bytes(states, alignment_bytes),
        };
        let least_file_bytes = choice.least_file_bytes() + state_bytes(BLOCK_BYTES);
        if let Some(disk) = disk.filter(|disk| least_file_bytes > disk.bytes) {
            return Err(disk.refuse(MemoryDomain::Disk, least_file_bytes));
        }
        let file_bytes = file_bytes - state_bytes(BLOCK_BYTES);
        let beside = MemoryAccount::beside_arena(&graphs, profile, self.buffers)
            .saturating_sub(state_bytes(profile.rules.slot_alignment_bytes));
        let mut rest = beside.saturating_sub(problem.weight_bytes()) + profile.program.copy_buffers;
        let mut needed = usize::MAX;
        for _ in 0..ATTEMPTS {
            let (micro, off) = match choice.plan(limit.bytes.saturating_sub(rest), file_bytes) {
                Ok(found) => found,
                Err(CompileError::ArenaDoesNotFit { smallest_bytes, .. }) => {
                    return Err(limit.refuse(domain, rest.saturating_add(smallest_bytes)));
                }
                Err(error) => return Err(error.into()),
            };
            let off = WeightsOffMemory { weights: &off.weights | states, ..off };
            let planned = self.with_others(micro, &off, !states.is_empty())?;
            needed = planned.account.peak_bytes(domain);
            let Some(excess) = needed.checked_sub(limit.bytes).filter(|&excess| excess > 0) else {
                self.limits.check_beside_arena(&planned.account, profile)?;
                return Ok(planned);
            };
            rest = rest.saturating_add(excess);
        }
        Err(limit.refuse(domain, needed))
    }

    /// The other plans, with the same weights and states off memory.
    fn with_others(&self, micro: Plan, off: &WeightsOffMemory, of_states: bool) -> Result<PlannedStep, TrainError> {
        let (profile, beside) = (self.profile, self.beside);
        let without =
            |plan: &Plan, graph: &Graph| with_weights_off_memory(plan, &simplify(graph.clone()), off, profile);
        let forward = |graph: &Graph| -> Result<Plan, TrainError> {
            Ok(without(&LoadedForward::plan(graph.clone(), profile)?, graph)?)
        };
        let in_arena = |graph: &Graph| -> Result<Plan, TrainError> {
            let policy = &self.config.checkpointing;
            Ok(without(&compile_or_smallest(graph.clone(), policy, profile, micro.arena_bytes)?, graph)?)
        };
        let evaluation = beside.evaluation.as_ref().map(forward).transpose()?;
        let generation = beside.generation.iter().map(forward).collect::<Result<Vec<_>, _>>()?;
        let shorter = beside.shorter.iter().map(in_arena).collect::<Result<Vec<_>, _>>()?;
        let (update, accumulation) = self.of_update;
        let trained = self.micro_step.trained.clone();
        let moved = |plan: &Plan, graph: &Option<Arc<Graph>>| -> Result<Plan, TrainError> {
            match graph.as_ref().filter(|_| of_states) {
                Some(graph) => Ok(without(plan, graph)?),
                None => Ok(plan.clone()),
            }
        };
        let update = moved(update, &trained.update)?;
        let accumulation = accumulation.map(|plan| moved(plan, &trained.accumulation)).transpose()?;
        let of_update = std::iter::once(&update).chain(&accumulation);
        let others: Vec<&Plan> = of_update.chain(&evaluation).chain(&generation).chain(&shorter).collect();
        let account =
            MemoryAccount::with_files(&micro, &others, profile, self.buffers, &self.micro_step.pinned.in_files);
        Ok(PlannedStep { micro, update, accumulation, evaluation, generation, shorter, account, trained })
    }
}
