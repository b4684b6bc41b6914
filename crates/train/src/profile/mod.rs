//! Policies measured side by side, before committing to one: memory and time of the same step under each.
//!
//! Method: for memory, each policy alone is loaded and run twice, after the process's high-water mark was set back. For
//! time, all plans are loaded into one executor and take turns, a warm-up round first, so that drift of the machine
//! hits all alike; the median counts. Planned times come from the machine's prices, which are measured on other shapes.
//! Invariant: the same tokens and weights under every policy, so that what they train must be equal in every bit.

pub(crate) mod profile_record;
pub(crate) mod side_by_side;

use crate::plan::memory;
use crate::plan::memory::Buffers;
use crate::plan::planning::{Limit, Limits, fitting};
use crate::plan::setup::{SetUp, SetUpFor};
use crate::prices::pace::PaceWatch;
use crate::prices::spill::with_spill;
use crate::prices::{Measuring, measured_profile};
use crate::profile::side_by_side::LoadedPolicies;
use crate::record::{bound_by, limiting};
use crate::{ErrorKind, Machine, MemoryPart, TrainConfig, TrainError};
use remat_compiler::Problem;
use remat_data::{Batch, DataLoader, SampleStats};
use remat_ir::OpDef;
use remat_model::{BatchShape, Method, Model};
use remat_plan::{Action, DeviceProfile, Plan, Policy, Prices, SpillPrices};
use remat_step::device::release_freed_memory;
use remat_step::{AdamWSettings, DeviceOptions, Trained, TrainingStep};
use serde::Serialize;
use std::path::Path;
use std::time::Instant;

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
        Ok(TrainingStep::new(training, Some(&AdamWSettings::default()))?)
    }
}

/// What a job borrows, as settings say it.
pub struct ProfileSetup {
    /// The settings, with derived defaults.
    pub config: TrainConfig,
    /// The folder's model, or a preset's with random weights.
    pub model: Model,
    /// What is trained.
    pub method: Method,
    /// Shape of a micro-batch.
    pub shape: BatchShape,
    /// The rows that are stepped on, if the settings name any.
    pub rows: Option<SampleRows>,
    /// Threads and instruction level.
    pub options: DeviceOptions,
    /// The machine, with the threads and instruction level of the steps.
    pub machine: Machine,
    /// How much memory there may be.
    pub limits: Limits,
    /// What operations cost, if the settings say.
    pub prices: Option<Prices>,
    /// What copies to the settings' folder cost, if they name one.
    pub spill: Option<SpillPrices>,
}

/// A micro-batch of a user's rows.
pub struct SampleRows {
    /// The first of the run that these settings would make.
    pub batch: Batch,
    /// What was read, file by file.
    pub data: Vec<SampleStats>,
}

impl ProfileSetup {
    /// Of settings; data and a folder to write are not asked for, and tokens are random without data.
    ///
    /// # Errors
    /// Bad settings; a model that cannot be opened.
    pub fn of(config: TrainConfig) -> Result<Self, TrainError> {
        let setup = SetUp::of(config.resolved_to_plan()?, SetUpFor::Profile)?;
        let SetUp { config, model, method, shape, loader, options, limits, prices, spill, .. } = setup;
        let machine = Machine::this(&options.level.to_string(), options.threads);
        let rows = loader.map(|loader| SampleRows::first_of(loader, shape)).transpose()?;
        Ok(ProfileSetup { config, model, method, shape, rows, options, machine, limits, prices, spill })
    }

    /// The limit of the memory where the arena lies.
    pub fn limit(&self) -> Option<Limit> {
        self.limits.in_domain(self.options.profile().tensor_domain())
    }
}

impl SampleRows {
    /// The first micro-batch of a run over these rows, in the shape that the run would have.
    fn first_of(mut loader: DataLoader, shape: BatchShape) -> Result<Self, TrainError> {
        let (mut update, mut batch) = (loader.update_buffer(), Batch::new(shape.batch, shape.seq_len));
        loader.next_update(&mut update)?;
        loader.fill(&update, 0, &mut batch)?;
        Ok(SampleRows { batch, data: loader.dataset().stats().to_vec() })
    }
}

/// One policy's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileRow {
    /// The policy.
    pub policy: String,
    /// Peak of the process that the memory account says.
    pub planned_peak_bytes: u64,
    /// Peak resident memory of the process while this policy alone was loaded and run.
    pub measured_peak_bytes: Option<u64>,
    /// What lives from forward to backward.
    pub activation_bytes: usize,
    /// Bytes found in use in the arena between forward and backward, of one that was filled with a pattern before.
    pub measured_activation_bytes: Option<u64>,
    /// Logits and their gradients, a chunk of tokens at a time.
    pub head_bytes: usize,
    /// Frozen weights, trained parameters, gradients and moments.
    pub model_bytes: usize,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Steps of the plan.
    pub plan_steps: usize,
    /// Steps that repeat forward work.
    pub recomputed_steps: usize,
    /// Bytes that a step copies out of the arena, and back.
    pub offloaded_bytes: usize,
    /// What takes most of the memory, and the limit where it is why the plan recomputes.
    pub bound_by: String,
    /// Seconds of a micro-step and an update that the prices say.
    pub planned_step_seconds: f64,
    /// Median seconds of a micro-step and an update.
    pub step_seconds: f64,
    /// More FLOPs than without recomputing, in percent.
    pub extra_flops_percent: f64,
    /// More time than the first row, in percent.
    pub extra_percent: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// A hash of every trained parameter after two updates: equal under all policies. As text it has no magnitude.
    #[serde(serialize_with = "hexadecimal")]
    pub trained_hash: u64,
}

fn hexadecimal<S: serde::Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{hash:016x}"))
}

/// What of the account is the model's, whatever the batch.
const MODEL_PARTS: [MemoryPart; 4] =
    [MemoryPart::Weights, MemoryPart::TrainedParameters, MemoryPart::Gradients, MemoryPart::Optimizer];

/// A policy that was not measured, since nothing it could plan fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedPolicy {
    /// The policy.
    pub policy: String,
    /// What it needs, and what there is.
    pub reason: String,
    /// The smallest limit that would do, where that is known: of the process for `auto`, of the kept bytes for a budget.
    pub smallest_bytes: Option<usize>,
}

impl RefusedPolicy {
    /// If the error is that this policy does not fit; any other error as it is.
    fn of(policy: &Policy, error: TrainError) -> Result<Self, TrainError> {
        if error.kind() != ErrorKind::DoesNotFit {
            return Err(error);
        }
        let smallest_bytes = match &error {
            TrainError::DoesNotFit { needed_bytes, .. } => Some(*needed_bytes),
            TrainError::Compile(error) => error.smallest_bytes(),
            _ => None,
        };
        Ok(RefusedPolicy { policy: policy.to_string(), reason: error.to_string(), smallest_bytes })
    }
}

/// What a job found.
#[derive(Debug, Clone, PartialEq)]
pub struct PolicyRows {
    /// One for each policy that fits, in the job's order; at least one.
    pub rows: Vec<ProfileRow>,
    /// The others.
    pub refused: Vec<RefusedPolicy>,
    /// What the times say of this machine's prices, if these were wrong.
    pub note: Option<String>,
}

/// Measures every policy of the job. One that cannot fit does not keep the others from being measured.
///
/// # Errors
/// A graph that cannot be built or compiled, weights that cannot be loaded; that no policy of all fits.
pub fn profile(job: &ProfileJob<'_>) -> Result<PolicyRows, TrainError> {
    let step = job.step()?;
    let device = match &job.prices {
        Some(prices) => DeviceProfile { prices: prices.clone(), ..job.options.profile() },
        None => measured_profile(&job.options, job.model.precision().into(), Measuring::IfDoubtful)?.0,
    };
    let device = with_spill(device, job.spill.map(|(_, prices)| prices));
    let (problem, trained) = step.problem(&device)?;
    let update = trained.plan_update(&device)?;
    let step = Step { job, problem, device: &device, update, trained };
    let (mut rows, mut plans, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (index, policy) in job.policies.iter().enumerate() {
        let measured = step.alone(policy);
        release_freed_memory();
        match measured {
            Ok((row, plan)) => {
                rows.push(row);
                plans.push(plan);
            }
            Err(error) if rows.is_empty() && index + 1 == job.policies.len() => return Err(error),
            Err(error) => refused.push(RefusedPolicy::of(policy, error)?),
        }
    }
    let Step { update, trained, .. } = step;
    let own_prices = job.prices.is_none().then_some(&device.prices);
    let mut pace = PaceWatch::new(job.options, job.model.precision().into(), own_prices);
    let note = time(job, &trained, plans, update, &mut rows, &mut pace)?;
    // What comes next in this process has a mark of its own.
    release_freed_memory();
    memory::reset_peak();
    Ok(PolicyRows { rows, refused, note })
}

/// The step that all policies plan.
struct Step<'a> {
    job: &'a ProfileJob<'a>,
    problem: Problem<'a>,
    device: &'a DeviceProfile,
    update: Plan,
    trained: Trained,
}

impl Step<'_> {
    /// The figures of one policy but for its times, measured while nothing else is loaded, and its plan.
    fn alone(&self, policy: &Policy) -> Result<(ProfileRow, Plan), TrainError> {
        let Step { job, problem, device, update, trained } = self;
        let limits = if *policy == Policy::Auto { job.limits } else { Limits::default() };
        // What the policies before this one held is no part of what it has to fit into.
        memory::reset_peak();
        let (plan, _, account) = fitting((problem, &[]), &[update], policy, device, Buffers::default(), limits)?;
        memory::reset_peak();
        // Loads, runs twice (adapters that start at zero have gradients only then), and gives the memory back before the
        // next policy is measured.
        let mut policies = LoadedPolicies::load(job, trained, vec![plan.clone()], update.clone())?;
        policies.step(0)?;
        policies.step(0)?;
        let trained_hash = policies.trained_hash(trained)?;
        let measured_peak_bytes = memory::peak_resident_bytes();
        // Last, because the pattern touches every page of the arena, also those that no step writes.
        let measured_activation_bytes = policies.live_between_phases()?;
        let domain = device.tensor_domain();
        let row = ProfileRow {
            policy: policy.to_string(),
            planned_peak_bytes: account.running_bytes(domain) as u64,
            measured_peak_bytes,
            activation_bytes: account.bytes_of(MemoryPart::KeptActivations),
            measured_activation_bytes,
            head_bytes: account.bytes_of(MemoryPart::HeadWorkspace),
            model_bytes: MODEL_PARTS.iter().map(|&part| account.bytes_of(part)).sum(),
            extra_flops_percent: extra_flops_percent(&plan),
            arena_bytes: plan.arena_bytes.max(update.arena_bytes),
            plan_steps: plan.steps.len(),
            recomputed_steps: plan.recomputed_steps().count(),
            offloaded_bytes: plan.offloaded_bytes(),
            bound_by: bound_by(&account, limiting(limits.in_domain(domain), &plan)),
            planned_step_seconds: plan.step_seconds(&device.prices) + update.step_seconds(&device.prices),
            step_seconds: 0.0,
            extra_percent: 0.0,
            tokens_per_second: 0.0,
            trained_hash,
        };
        Ok((row, plan))
    }
}

/// Fills in the times: all plans in one executor, taking turns. What they say of the prices.
fn time(
    job: &ProfileJob<'_>,
    trained: &Trained,
    plans: Vec<Plan>,
    update: Plan,
    rows: &mut [ProfileRow],
    pace: &mut PaceWatch,
) -> Result<Option<String>, TrainError> {
    let mut policies = LoadedPolicies::load(job, trained, plans, update)?;
    let mut seconds = vec![Vec::with_capacity(job.repeats); rows.len()];
    let mut note = None;
    for round in 0..=job.repeats {
        for (index, seconds) in seconds.iter_mut().enumerate() {
            let is_paced = pace.is_due(round as u64);
            if is_paced {
                pace.begin(policies.loaded_mut());
            }
            let start = Instant::now();
            policies.step(index)?;
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
            if is_paced {
                note = note.or(pace.end(policies.loaded_mut()));
            }
        }
    }
    let tokens = job.batch.map_or(job.shape.batch * job.shape.seq_len, |batch| batch.tokens) as f64;
    let first = median(&mut seconds[0].clone());
    for (row, seconds) in rows.iter_mut().zip(&mut seconds) {
        row.step_seconds = median(seconds);
        row.extra_percent = 100.0 * (row.step_seconds / first - 1.0);
        row.tokens_per_second = tokens / row.step_seconds;
    }
    Ok(note)
}

/// FLOPs of the steps that repeat forward work, in percent of all others.
fn extra_flops_percent(plan: &Plan) -> f64 {
    let (mut once, mut again) = (0.0, 0.0);
    for step in &plan.steps {
        let Action::Compute(op) = step.action else { continue };
        let node = plan.graph.node(op);
        let (inputs, outputs) = plan.graph.node_types(node);
        let flops = node.op.cost(&inputs, &outputs).flops;
        *if node.recompute_of.is_some() { &mut again } else { &mut once } += flops;
    }
    100.0 * again / f64::max(once, 1.0)
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    match seconds.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => seconds[n / 2],
        n => (seconds[n / 2 - 1] + seconds[n / 2]) / 2.0,
    }
}
