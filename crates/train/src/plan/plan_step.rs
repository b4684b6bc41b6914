//! All plans of a run within the memory it may use: with resident weights, or with some off memory where that is faster or
//! nothing else fits.
//!
//! Invariant: more memory never makes a step slower by this choice, since neither kind of plan does. Look next at `planning`
//! and `off_memory`.

use crate::plan::memory::Buffers;
use crate::plan::off_memory::OffMemory;
use crate::plan::part_seconds::PartSeconds;
use crate::plan::planning::{Limits, MicroStepProblem, OtherGraphs, PlannedStep, fitting};
use crate::settings::kinds::MethodKind;
use crate::{TrainConfig, TrainError};
use remat_compiler::OffMemoryPlans;
use remat_ir::{Graph, OpDef};
use remat_plan::{DeviceProfile, Plan, Policy};
use remat_step::LoadedForward;
use std::collections::HashSet;

/// Compiles the micro-steps, the update, the evaluation and what samples.
pub(crate) fn plan_step(
    config: &TrainConfig,
    micro_step: &MicroStepProblem<'_>,
    beside: &OtherGraphs,
    profile: &DeviceProfile,
    buffers: Buffers,
    limits: Limits,
) -> Result<PlannedStep, TrainError> {
    let policy = &config.checkpointing;
    let MicroStepProblem { problem, trained, pinned, places } = micro_step;
    let (update, accumulation) = (trained.plan_update(profile)?, trained.plan_accumulation(profile)?);
    let plan = |graph: &Graph| LoadedForward::plan(graph.clone(), profile);
    let evaluation = beside.evaluation.as_ref().map(plan).transpose()?;
    let generation = beside.generation.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    let others: Vec<&Plan> =
        std::iter::once(&update).chain(&accumulation).chain(&evaluation).chain(&generation).collect();
    let of_update = (&update, accumulation.as_ref());
    let off_memory = OffMemory { config, micro_step, of_update, beside, profile, buffers, limits };
    let forced = off_memory.states().forced(places);
    if !pinned.on_disk.is_empty() || !forced.is_empty() {
        let of_micro = (!forced.is_empty()).then(|| off_memory.of_micro(&forced));
        return with_states(off_memory.plans_of(&off_memory.choice(of_micro), &forced), &off_memory);
    }
    let fitted = fitting((problem, &beside.shorter), &others, policy, profile, buffers, limits);
    let asked = match &fitted {
        // Nothing can be faster than a plan that repeats and moves nothing.
        Ok((micro, ..)) => prices_decide(micro),
        Err(error) => matches!(error, TrainError::DoesNotFit { .. }),
    };
    if !asked || !profile.prices.reads_weights() {
        return fitted.map(|(micro, shorter, account)| {
            let trained = trained.clone();
            PlannedStep { micro, update, accumulation, evaluation, generation, shorter, account, trained }
        });
    }
    let resident = fitted.map(|(micro, shorter, account)| {
        let (update, accumulation) = (update.clone(), accumulation.clone());
        let (evaluation, generation, trained) = (evaluation.clone(), generation.clone(), trained.clone());
        PlannedStep { micro, update, accumulation, evaluation, generation, shorter, account, trained }
    });
    with_states(faster(resident, off_memory.plans(), profile), &off_memory)
}

/// Whether training states may leave memory: there is a folder for them, and the model itself is trained, by one process:
/// several share them out, and exchange them where they lie.
pub(crate) fn states_may_leave(
    config: &TrainConfig,
    micro_step: &MicroStepProblem<'_>,
    profile: &DeviceProfile,
) -> bool {
    let mut of_update = micro_step.trained.update.iter().chain(&micro_step.trained.accumulation);
    let exchanges = of_update.any(|graph| graph.nodes.iter().any(|node| node.op.collective().is_some()));
    config.method == MethodKind::Full && profile.prices.spill.is_some() && !exchanges
}

/// The faster of some plans and those with more training states off memory, where these may leave it.
fn with_states(
    mut best: Result<PlannedStep, TrainError>,
    off_memory: &OffMemory<'_>,
) -> Result<PlannedStep, TrainError> {
    let (config, profile) = (off_memory.config, off_memory.profile);
    if !states_may_leave(config, off_memory.micro_step, profile) {
        return best;
    }
    let mut known: Option<(HashSet<String>, OffMemoryPlans<'_>)> = None;
    for states in off_memory.states().levels(&off_memory.micro_step.places) {
        // Nothing can be faster than a plan that repeats and moves nothing.
        let is_asked = match &best {
            Ok(planned) => prices_decide(&planned.micro),
            Err(error) => matches!(error, TrainError::DoesNotFit { .. }),
        };
        if !is_asked {
            break;
        }
        let of_micro = off_memory.of_micro(&states);
        let (_, choice) = match known.take().filter(|(known, _)| *known == of_micro) {
            Some(same) => known.insert(same),
            None => known.insert((of_micro.clone(), off_memory.choice(Some(of_micro)))),
        };
        best = better(best, off_memory.plans_of(choice, &states), config.grad_accum, profile);
    }
    best
}

/// The better of two: the faster by whole updates; where neither fits, the refusal of the one that needs less.
fn better(
    before: Result<PlannedStep, TrainError>,
    after: Result<PlannedStep, TrainError>,
    micro_batches: usize,
    profile: &DeviceProfile,
) -> Result<PlannedStep, TrainError> {
    let seconds = |planned: &PlannedStep| {
        let PlannedStep { micro, update, accumulation, .. } = planned;
        PartSeconds::of(micro, update, accumulation.as_ref(), &profile.prices).of_update(micro_batches)
    };
    match (before, after) {
        (Ok(before), Ok(after)) if seconds(&after) < seconds(&before) => Ok(after),
        (Err(TrainError::DoesNotFit { .. }), Ok(after)) => Ok(after),
        (
            Err(TrainError::DoesNotFit { needed_bytes: of_before, domain: before, .. }),
            Err(refusal @ TrainError::DoesNotFit { needed_bytes, domain, .. }),
        ) if domain == before && needed_bytes < of_before => Err(refusal),
        (before, _) => before,
    }
}

/// Whether a plan was searched for by price, because a limit lets it repeat or move something: nothing else asks what an op
/// costs.
pub(crate) fn prices_decide(micro: &Plan) -> bool {
    let searched = matches!(micro.policy, Policy::Auto | Policy::Budget(_));
    micro.copy_steps().next().is_some() || (searched && micro.recomputed_steps().next().is_some())
}

/// The faster of two plans, weights resident in one and some off memory in the other; where neither fits, the refusal of the
/// one that needs less.
fn faster(
    resident: Result<PlannedStep, TrainError>,
    off_memory: Result<PlannedStep, TrainError>,
    profile: &DeviceProfile,
) -> Result<PlannedStep, TrainError> {
    let seconds = |planned: &PlannedStep| planned.micro.step_seconds(&profile.prices);
    match (resident, off_memory) {
        (Ok(resident), Ok(off_memory)) if seconds(&off_memory) < seconds(&resident) => Ok(off_memory),
        (Err(TrainError::DoesNotFit { .. }), Ok(off_memory)) => Ok(off_memory),
        (
            Err(TrainError::DoesNotFit { needed_bytes: of_resident, .. }),
            Err(refusal @ TrainError::DoesNotFit { needed_bytes, .. }),
        ) if needed_bytes < of_resident => Err(refusal),
        (resident, _) => resident,
    }
}
