//! All plans of a run within the memory it may use: with resident weights, or with some off memory where that is faster or
//! nothing else fits.
//!
//! Invariant: more memory never makes a step slower by this choice, since neither kind of plan does. Look next at `planning`
//! and `off_memory`.

use crate::plan::memory::Buffers;
use crate::plan::off_memory::OffMemory;
use crate::plan::planning::{Limits, MicroStepProblem, OtherGraphs, PlannedStep, fitting};
use crate::{TrainConfig, TrainError};
use remat_ir::Graph;
use remat_plan::{DeviceProfile, Plan, Policy};
use remat_step::LoadedForward;

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
    let MicroStepProblem { problem, trained, pinned } = micro_step;
    let (update, accumulation) = (trained.plan_update(profile)?, trained.plan_accumulation(profile)?);
    let plan = |graph: &Graph| LoadedForward::plan(graph.clone(), profile);
    let evaluation = beside.evaluation.as_ref().map(plan).transpose()?;
    let generation = beside.generation.iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    let others: Vec<&Plan> =
        std::iter::once(&update).chain(&accumulation).chain(&evaluation).chain(&generation).collect();
    let of_update = (&update, accumulation.as_ref());
    let off_memory = OffMemory { config, micro_step, of_update, beside, profile, buffers, limits };
    if !pinned.on_disk.is_empty() {
        return off_memory.plans();
    }
    let fitted = fitting((problem, &beside.shorter), &others, policy, profile, buffers, limits);
    let asked = match &fitted {
        // Nothing can be faster than a plan that repeats and moves nothing.
        Ok((micro, ..)) => prices_decide(micro),
        Err(error) => matches!(error, TrainError::DoesNotFit { .. }),
    };
    let other = (asked && profile.prices.reads_weights()).then(|| off_memory.plans());
    let resident = fitted.map(|(micro, shorter, account)| {
        let trained = trained.clone();
        PlannedStep { micro, update, accumulation, evaluation, generation, shorter, account, trained }
    });
    match other {
        Some(off_memory) => faster(resident, off_memory, profile),
        None => resident,
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
