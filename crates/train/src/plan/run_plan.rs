//! A run planned from shapes alone: will it fit, how, how fast. What `remat plan` shows.
//!
//! Method: the same passes, limit and account as a run's own, without weights; with `--data`, the rows are read as a run
//! would read them, since they decide how long a sequence is. Invariant: what is shown is of plans that were made. Look
//! next at `planning` for the limit and at `alternatives`.

use crate::plan::alternative::Alternative;
use crate::plan::alternatives::{OfUpdate, Present, alternatives};
use crate::plan::buckets::BucketPlan;
use crate::plan::cluster::{Cluster, RanksPlan, UpdateWork};
use crate::plan::part_seconds::PartSeconds;
use crate::plan::placed_states::{PlacedStates, placed_states};
use crate::plan::placed_weights::{PlacedWeights, placed_weights};
use crate::plan::plan_step::{plan_step, states_may_leave};
use crate::plan::planning::{Limit, MicroStepProblem, PlannedStep};
use crate::plan::setting::Setting;
use crate::plan::setup::{SetUp, SetUpFor};
use crate::plan::state_levels::TrainingStates;
use crate::ranks::host_share::{check_on_ranks, shared};
use crate::{MemoryAccount, MemoryPart, PhaseMemory, TrainConfig, TrainError};
use remat_compiler::{CompileError, Pinned, Survey};
use remat_ir::{Storage, World};
use remat_model::BatchShape;
use remat_plan::{DeviceProfile, MemoryDomain, Plan, Policy, lower_bound_bytes};
use remat_step::Shards;

/// Points of the frontier that are shown.
const POINTS: usize = 8;

/// What is added to the smallest limit each time that planning took more memory meanwhile.
const SPARE_BYTES: usize = 4 << 20;

/// How a plan stands to the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    /// It fits, with room.
    Fits,
    /// It fits, but the smallest plan of all would need more than nine tenths of the limit.
    Tight,
    /// Not even the smallest plan fits; what is shown is that one.
    DoesNotFit,
}

impl Fit {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Fit::Fits => "fits",
            Fit::Tight => "tight",
            Fit::DoesNotFit => "does not fit",
        }
    }
}

/// One plan of the time-memory frontier, as a run would take it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrontierRow {
    /// Peak of the whole process.
    pub peak_bytes: usize,
    /// Bytes alive from forward to backward.
    pub activation_bytes: usize,
    /// Predicted seconds of one update: all its micro-steps and the optimizer.
    pub step_seconds: f64,
}

/// A run planned from shapes.
#[derive(Debug, Clone)]
pub struct RunPlan {
    /// The settings, as resolved.
    pub config: TrainConfig,
    /// The model's name: its folder or preset.
    pub model: String,
    /// The model's architecture.
    pub family: &'static str,
    /// What to know of the model's folder.
    pub notes: Vec<String>,
    /// Number format of weights and activations, and what the model is stored in where that is another.
    pub number_format: String,
    /// Shape of a micro-batch.
    pub shape: BatchShape,
    /// Parameters that are trained.
    pub trained_parameters: usize,
    /// Parameters of base and adapters together.
    pub total_parameters: usize,
    /// What it is planned for.
    pub profile: DeviceProfile,
    /// The memory that the verdict is about: where the arena lies, or what else the run does not fit into.
    pub domain: MemoryDomain,
    /// How much of it there is, if that is known.
    pub limit: Option<Limit>,
    /// Whether it does.
    pub fit: Fit,
    /// The micro-step's plan; the smallest if it does not fit.
    pub micro: Plan,
    /// Where frozen weights lie, where some are off memory.
    pub placement: Vec<PlacedWeights>,
    /// Where training states lie, where some are off memory.
    pub states: Vec<PlacedStates>,
    /// The update's plan.
    pub update: Plan,
    /// What the run would hold.
    pub account: MemoryAccount,
    /// The least that there can be of it for this policy.
    pub smallest_memory_bytes: usize,
    /// The least that can be kept from forward to backward.
    pub smallest_activation_bytes: usize,
    /// Predicted seconds of one update.
    pub step_seconds: f64,
    /// Arena over the bytes that its order of steps has alive at once.
    pub arena_over_lower_bound: f64,
    /// Micro-batches by length, the shortest first, each with its plan; one where all are of one length.
    pub buckets: Vec<BucketPlan>,
    /// From the smallest plan to the fastest.
    pub frontier: Vec<FrontierRow>,
    /// What else could be chosen.
    pub alternatives: Vec<Alternative>,
    /// What several ranks come to, of which the rest is one.
    pub ranks: Option<RanksPlan>,
}

impl RunPlan {
    /// How many micro-batches one rank, or the only process, computes one after the other in an update.
    pub fn rounds(&self) -> usize {
        self.ranks.as_ref().map_or(self.config.grad_accum, |ranks| ranks.rounds)
    }

    /// What the run would hold, phase by phase.
    pub fn phases(&self) -> Vec<PhaseMemory> {
        self.account.phases()
    }
}

/// Plans a run without its weights.
///
/// # Errors
/// Bad settings or rows, a model that cannot be planned. That it does not fit is no error but the plan's [`Fit`].
pub fn plan(config: TrainConfig) -> Result<RunPlan, TrainError> {
    planned(config.resolved_to_plan()?, None)
}

/// Plans one of several ranks without its weights, and what they come to together. Where the settings do not say, each has
/// its share of this machine's threads and memory, as if every host were like this one.
///
/// # Errors
/// As [`plan`].
pub fn plan_on_ranks(config: TrainConfig, cluster: &Cluster) -> Result<RunPlan, TrainError> {
    let config = config.resolved_to_plan()?;
    check_on_ranks(&config)?;
    planned(shared(config, cluster.ranks_of_host()), Some(cluster))
}

fn planned(config: TrainConfig, cluster: Option<&Cluster>) -> Result<RunPlan, TrainError> {
    let mut setup = SetUp::of(config, SetUpFor::Plan(cluster.map_or(0, Cluster::ranks)))?;
    let shards = Shards::of(&setup.setting().training()?.parameters, setup.world.size);
    setup.world.rank = shards.fullest();
    let (setting, profile) = (setup.setting(), setup.profile());
    let micro_step = MicroStepProblem::of(setting.step()?, setting, &profile)?;
    let (planned, fits, domain) = planned_or_smallest(&setup, &micro_step, &profile)?;
    let buckets = planned.bucket_plans(&setup.buckets, &profile);
    let mut summary = FrontierSummary::of(setting, &micro_step, &planned, &profile, domain)?;
    if !fits {
        // That plan is the smallest, and its account what the same command succeeds with.
        summary.smallest_memory_bytes = planned.account.peak_bytes(domain);
    }
    let states = placed_states(&planned, setting.config.grad_accum);
    let PlannedStep { micro, update, accumulation, account, trained, .. } = planned;
    // Of the graphs of the update their plans are left; a deep model's are large.
    let MicroStepProblem { problem, pinned, .. } = micro_step;
    let parameters = trained.parameters;
    let of_update = OfUpdate { update: &update, accumulation: accumulation.as_ref() };
    let present =
        Present { setting, profile: &profile, problem: &problem, parameters: &parameters, micro: &micro, of_update };
    let alternatives = alternatives(&present)?;
    let placement = placed_weights(&micro, &pinned.in_files);
    drop(problem);
    let seconds = PartSeconds::of(&micro, &update, accumulation.as_ref(), &profile.prices);
    let alone = cluster.map(|_| seconds_alone(setting, seconds.micro, &profile)).transpose()?;
    let SetUp { config, model, shape, limits, .. } = setup;
    let limit = limits.in_domain(domain);
    let tight = |limit: Limit| summary.smallest_memory_bytes > limit.bytes / 10 * 9;
    let trained_parameters = parameters.iter().map(|parameter| parameter.ty.shape.numel()).sum::<usize>();
    let weights = micro.graph.values.iter().filter(|value| value.storage == Storage::Weight);
    let peak_bytes = account.peak_bytes(MemoryDomain::Host);
    let (micro_batches, shards) = (config.grad_accum, &shards);
    let ranks = cluster.zip(alone).map(|(cluster, alone)| {
        let work = UpdateWork { micro_batches, shards, seconds, alone, peak_bytes };
        RanksPlan::of(cluster, &work, &profile.prices)
    });
    Ok(RunPlan {
        step_seconds: match &ranks {
            Some(ranks) => ranks.compute_seconds + ranks.exchange_seconds,
            None => seconds.of_update(config.grad_accum),
        },
        ranks,
        model: model.folder().display().to_string(),
        family: model.config().family,
        notes: model.notes().to_vec(),
        number_format: config.number_format().beside(model.stored_dtype()),
        shape,
        trained_parameters,
        total_parameters: trained_parameters + weights.map(|value| value.ty.shape.numel()).sum::<usize>(),
        domain,
        limit,
        fit: match limit {
            _ if !fits => Fit::DoesNotFit,
            Some(limit) if tight(limit) => Fit::Tight,
            _ => Fit::Fits,
        },
        arena_over_lower_bound: micro.arena_bytes as f64 / lower_bound_bytes(&micro).max(1) as f64,
        smallest_memory_bytes: summary.smallest_memory_bytes,
        smallest_activation_bytes: summary.smallest_activation_bytes,
        frontier: summary.frontier,
        buckets,
        alternatives,
        placement,
        states,
        micro,
        update,
        account,
        profile,
        config,
    })
}

/// Seconds of the parts of an update of the same settings by one process, whose micro-step takes so many.
fn seconds_alone(setting: Setting<'_>, micro: f64, profile: &DeviceProfile) -> Result<PartSeconds, TrainError> {
    let trained = Setting { world: World::ALONE, ..setting }.step()?.trained;
    let seconds = |plan: &Plan| plan.step_seconds(&profile.prices);
    let update = seconds(&trained.plan_update(profile)?);
    let accumulation = trained.plan_accumulation(profile)?.as_ref().map_or(0.0, seconds);
    Ok(PartSeconds { micro, accumulation, update })
}

/// The plan of the settings, whether it fits, and what it would be that it does not fit into; the smallest of their policy
/// if it does not.
fn planned_or_smallest(
    setup: &SetUp,
    micro_step: &MicroStepProblem<'_>,
    profile: &DeviceProfile,
) -> Result<(PlannedStep, bool, MemoryDomain), TrainError> {
    let beside = setup.other_graphs()?;
    let (mut config, mut limits, mut fits) = (setup.config.clone(), setup.limits, true);
    let mut misfit = None;
    loop {
        match plan_step(&config, micro_step, &beside, profile, setup.buffers, limits) {
            Err(TrainError::DoesNotFit { domain, needed_bytes, whose, limit_bytes, .. }) => {
                // A second refusal means that planning itself took more memory meanwhile.
                let bytes = needed_bytes.max(limit_bytes + if fits { 0 } else { SPARE_BYTES });
                (limits, fits) = (limits.with(domain, Limit { bytes, whose }), false);
                misfit.get_or_insert(domain);
            }
            Err(TrainError::Compile(CompileError::BudgetDoesNotFit { smallest_bytes, .. })) => {
                (config.checkpointing, fits) = (Policy::Budget(smallest_bytes), false);
            }
            planned => return Ok((planned?, fits, misfit.unwrap_or(profile.tensor_domain()))),
        }
    }
}

/// The least that a run holds with weights and states off memory as far as they can be; `beside` is what it holds beside its
/// arena with all of them in memory.
fn smallest_off_memory(
    config: &TrainConfig,
    micro_step: &MicroStepProblem<'_>,
    planned: &PlannedStep,
    beside: usize,
    profile: &DeviceProfile,
) -> usize {
    let MicroStepProblem { problem, pinned, places, .. } = micro_step;
    let graphs = planned.graphs();
    let states = TrainingStates::of(&graphs);
    let all = states.levels(places).pop().filter(|_| states_may_leave(config, micro_step, profile));
    let bytes = all.as_ref().map_or(0, |all| states.bytes(all, profile.rules.slot_alignment_bytes));
    let pinned = Pinned { states: all, ..pinned.clone() };
    let taken = problem.off_memory(&config.checkpointing, &pinned).smallest_bytes(usize::MAX);
    (beside - problem.weight_bytes() - bytes).saturating_add(taken).saturating_add(profile.program.copy_buffers)
}

/// The frontier that a plan is a point of, and the smallest plans.
struct FrontierSummary {
    frontier: Vec<FrontierRow>,
    smallest_memory_bytes: usize,
    smallest_activation_bytes: usize,
}

impl FrontierSummary {
    fn of(
        setting: Setting<'_>,
        micro_step: &MicroStepProblem<'_>,
        planned: &PlannedStep,
        profile: &DeviceProfile,
        domain: MemoryDomain,
    ) -> Result<Self, TrainError> {
        let config = setting.config;
        let Survey { frontier, smallest_arena_bytes, smallest_activation_bytes } =
            micro_step.problem.survey(&config.checkpointing, POINTS)?;
        let arena_bytes = planned.micro.arena_bytes.max(planned.update.arena_bytes);
        let (account, of_arena) = (&planned.account, profile.tensor_domain());
        // Of the frontier, where all weights and states are resident.
        let states = TrainingStates::of(&planned.graphs());
        let states = states.bytes(&planned.names_off_memory(), profile.rules.slot_alignment_bytes);
        let resident = micro_step.problem.weight_bytes() - planned.micro.resident_weight_bytes() + states;
        let copy_buffers = account.bytes_of(MemoryPart::CopyBuffers);
        let beside = account.running_bytes(of_arena) - arena_bytes + resident - copy_buffers;
        let peak = |arena_bytes: usize| {
            (beside + arena_bytes.max(planned.update.arena_bytes)).max(account.earlier_bytes(of_arena))
        };
        let off_memory = match profile.prices.reads_weights() {
            true => smallest_off_memory(config, micro_step, planned, beside, profile),
            false => usize::MAX,
        };
        let off_memory = off_memory.max(account.earlier_bytes(of_arena));
        // Nor does an update move any.
        let resident_update = match states {
            0 => None,
            _ => Some((micro_step.trained.plan_update(profile)?, micro_step.trained.plan_accumulation(profile)?)),
        };
        let of_update = resident_update.as_ref().map(|(update, accumulation)| (update, accumulation.as_ref()));
        let (update, accumulation) = of_update.unwrap_or((&planned.update, planned.accumulation.as_ref()));
        let of_resident = PartSeconds::of(&planned.micro, update, accumulation, &profile.prices);
        let rounds = config.grad_accum.div_ceil(setting.world.size);
        let row = |point: &remat_compiler::FrontierPoint| FrontierRow {
            peak_bytes: peak(point.arena_bytes),
            activation_bytes: point.activation_bytes,
            step_seconds: PartSeconds { micro: point.step_seconds, ..of_resident }.of_update(rounds),
        };
        Ok(FrontierSummary {
            frontier: frontier.iter().map(row).collect(),
            smallest_memory_bytes: if domain == of_arena {
                peak(smallest_arena_bytes).min(off_memory)
            } else {
                account.peak_bytes(domain)
            },
            smallest_activation_bytes,
        })
    }
}
