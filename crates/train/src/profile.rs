//! Policies measured side by side, before committing to one: memory and time of the same step under each.
//!
//! Method: for memory, each policy alone is loaded and run twice, after the process's high-water mark was set back. For
//! time, all plans are loaded into one executor and take turns, a warm-up round first, so that drift of the machine
//! hits all alike; the median counts. Planned times come from the machine's prices, which are measured on other shapes.
//! Invariant: the same tokens and weights under every policy, so that what they train must be equal in every bit.

use crate::memory::Buffers;
use crate::planning::{Limit, fitting};
use crate::prepare::{DEFAULT_SEQ_LEN, method};
use crate::prices::measured_profile;
use crate::record::{bound_by, limiting};
use crate::{Machine, TrainConfig, TrainError, memory};
use remat_compiler::{Target, compile, differentiate};
use remat_cpu::{CpuExecutor, CpuOptions, POISON, release_freed_memory};
use remat_ir::{Graph, OpDef, Phase};
use remat_model::{AdamWSettings, BatchShape, Method, Model, Parameter, update_graph};
use remat_plan::{Action, Executor, Plan, Policy, Prices, ProgramId, RunObserver, Slot, Step, StepId};
use remat_tensor::Philox;
use serde::Serialize;
use std::hash::{DefaultHasher, Hasher};
use std::time::Instant;

/// What to measure.
pub struct ProfileJob<'a> {
    /// The model folder.
    pub model: &'a Model,
    /// What is trained.
    pub method: &'a Method,
    /// Shape of a micro-batch.
    pub shape: BatchShape,
    /// The policies, in the order of the rows.
    pub policies: &'a [Policy],
    /// Counted steps of each.
    pub repeats: usize,
    /// Threads and instruction level.
    pub options: CpuOptions,
    /// What the policy auto has to fit into; without it, auto keeps everything.
    pub limit: Option<Limit>,
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
    /// Threads and instruction level.
    pub options: CpuOptions,
    /// The machine, with the threads and instruction level of the steps.
    pub machine: Machine,
    /// How much the process may hold.
    pub limit: Option<Limit>,
}

impl ProfileSetup {
    /// Of settings; data and a folder to write are not asked for, tokens are random.
    ///
    /// # Errors
    /// Bad settings; a model that cannot be opened.
    pub fn of(config: TrainConfig) -> Result<Self, TrainError> {
        let mut config = config.resolved_to_plan()?;
        let model = match &config.preset {
            Some(name) => Model::from_preset(name)?,
            None => Model::open(&config.model)?,
        };
        let model = model.in_precision(config.precision.into());
        let method = method(&config, &|adapter| Ok(model.adapter_settings(adapter)?))?;
        let seq_len = *config.seq_len.get_or_insert(model.config().max_positions().min(DEFAULT_SEQ_LEN));
        let shape = BatchShape { batch: config.batch_size, seq_len };
        let options = config.cpu_options();
        let machine = Machine::this(&options.level.to_string(), options.threads);
        let limit = Limit::of(&config)?;
        Ok(ProfileSetup { config, model, method, shape, options, machine, limit })
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
    /// A hash of every trained parameter after two updates: equal under all policies.
    pub trained_hash: u64,
}

/// Measures every policy of the job.
///
/// # Errors
/// A graph that cannot be built or compiled, weights that cannot be loaded.
pub fn profile(job: &ProfileJob<'_>) -> Result<Vec<ProfileRow>, TrainError> {
    let training = job.model.training(job.method, job.shape)?;
    let parameters = training.parameters;
    let target = |p: &Parameter| Target { value: p.value, accumulate_into: Some(p.gradient) };
    let targets: Vec<Target> = parameters.iter().map(target).collect();
    let graph = differentiate(training.graph, training.loss, training.seed, &targets)?.graph;
    let options = job.options;
    let (device, _) = measured_profile(&options, job.model.precision().into(), false)?;
    let compiled = |graph: &Graph, policy: &Policy| compile(graph.clone(), policy, &device);
    let update = compiled(&update_graph(&parameters, &AdamWSettings::default())?, &Policy::None)?;
    let mut rows = Vec::with_capacity(job.policies.len());
    let mut plans = Vec::with_capacity(job.policies.len());
    for policy in job.policies {
        let limit = job.limit.filter(|_| *policy == Policy::Auto);
        let (plan, account) = fitting(&graph, &[&update], policy, &device, Buffers::default(), limit)?;
        memory::reset_peak();
        // Loads, runs twice (adapters that start at zero have gradients only then), and gives the memory back before the
        // next policy is measured.
        let mut turns = Turns::load(job, &parameters, vec![plan.clone(), update.clone()], options)?;
        turns.step(0)?;
        turns.step(0)?;
        let trained_hash = turns.trained_hash(&parameters)?;
        let measured_peak_bytes = memory::peak_resident_bytes();
        // Last, because the pattern touches every page of the arena, also those that no step writes.
        let measured_activation_bytes = turns.live_between_phases()?;
        drop(turns);
        release_freed_memory();
        rows.push(ProfileRow {
            policy: policy.to_string(),
            planned_peak_bytes: account.running_bytes() as u64,
            measured_peak_bytes,
            activation_bytes: account.bytes_of("kept activations"),
            measured_activation_bytes,
            head_bytes: account.bytes_of("head workspace"),
            model_bytes: ["weights", "trained parameters", "gradients", "optimizer"]
                .map(|row| account.bytes_of(row))
                .iter()
                .sum(),
            extra_flops_percent: extra_flops_percent(&plan),
            arena_bytes: plan.arena_bytes.max(update.arena_bytes),
            plan_steps: plan.steps.len(),
            recomputed_steps: plan.recomputed_steps().count(),
            bound_by: bound_by(&account, limiting(limit, &plan)),
            planned_step_seconds: seconds(&plan, &device.prices) + seconds(&update, &device.prices),
            step_seconds: 0.0,
            extra_percent: 0.0,
            tokens_per_second: 0.0,
            trained_hash,
        });
        plans.push(plan);
    }
    plans.push(update);
    time(job, &parameters, plans, options, &mut rows)?;
    // What comes next in this process has a mark of its own.
    release_freed_memory();
    memory::reset_peak();
    Ok(rows)
}

/// Fills in the times: all plans in one executor, taking turns.
fn time(
    job: &ProfileJob<'_>,
    parameters: &[Parameter],
    plans: Vec<Plan>,
    options: CpuOptions,
    rows: &mut [ProfileRow],
) -> Result<(), TrainError> {
    let mut turns = Turns::load(job, parameters, plans, options)?;
    let mut seconds = vec![Vec::with_capacity(job.repeats); rows.len()];
    for round in 0..=job.repeats {
        for (index, seconds) in seconds.iter_mut().enumerate() {
            let start = Instant::now();
            turns.step(index)?;
            if round > 0 {
                seconds.push(start.elapsed().as_secs_f64());
            }
        }
    }
    let tokens = (job.shape.batch * job.shape.seq_len) as f64;
    let first = median(&mut seconds[0].clone());
    for (row, seconds) in rows.iter_mut().zip(&mut seconds) {
        row.step_seconds = median(seconds);
        row.extra_percent = 100.0 * (row.step_seconds / first - 1.0);
        row.tokens_per_second = tokens / row.step_seconds;
    }
    Ok(())
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

/// What the prices say of a plan.
fn seconds(plan: &Plan, prices: &Prices) -> f64 {
    let step = |action: &Action| match action {
        Action::Compute(node) => prices.seconds(&plan.graph, plan.graph.node(*node)),
        _ => 0.0,
    };
    plan.steps.iter().map(|plan_step| step(&plan_step.action)).sum()
}

fn median(seconds: &mut [f64]) -> f64 {
    seconds.sort_by(f64::total_cmp);
    match seconds.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => seconds[n / 2],
        n => (seconds[n / 2 - 1] + seconds[n / 2]) / 2.0,
    }
}

/// Counts what is in use in a poisoned arena when the forward has ended.
struct Census {
    live_bytes: Option<u64>,
}

impl RunObserver for Census {
    fn after_step(&mut self, plan: &Plan, id: StepId, _step: &Step, arena: &[u8]) {
        let turn = plan.steps.iter().position(|step| match step.action {
            Action::Compute(op) => {
                let node = plan.graph.node(op);
                node.phase == Phase::Backward || node.recompute_of.is_some()
            }
            _ => false,
        });
        if turn != Some(id.index() + 1) {
            return;
        }
        let in_use = |bytes: &[u8]| 4 * bytes.chunks_exact(4).filter(|word| **word != [POISON; 4]).count() as u64;
        // What this last step frees is poisoned only after it was shown.
        let ends_here = plan.buffers.iter().filter(|buffer| buffer.last == id).map(|buffer| buffer.slot);
        let freed = ends_here.chain(plan.steps[id.index()].workspace);
        let kept = plan.buffers.iter().filter(|buffer| buffer.first <= id && buffer.last > id);
        let kept: Vec<_> = kept.map(|buffer| buffer.slot).collect();
        let overlaps = |slot: &Slot| kept.iter().any(|other| other.offset < slot.end() && slot.offset < other.end());
        let freed: u64 = freed.filter(|slot| !overlaps(slot)).map(|slot| in_use(&arena[slot.offset..slot.end()])).sum();
        self.live_bytes = Some(in_use(arena).saturating_sub(freed));
    }
}

/// Several micro-steps and one update, loaded with the same weights and tokens.
struct Turns {
    executor: CpuExecutor,
    programs: Vec<ProgramId>,
    updates: i32,
}

impl Turns {
    /// The last plan is the update.
    fn load(
        job: &ProfileJob<'_>,
        parameters: &[Parameter],
        plans: Vec<Plan>,
        options: CpuOptions,
    ) -> Result<Self, TrainError> {
        let mut executor = CpuExecutor::new(options);
        let graph = plans[0].graph.clone();
        let programs = executor.load(plans)?;
        job.model.load_weights(&graph, &mut executor)?;
        if job.method.adapter().is_some() {
            job.model.init_adapter(parameters, 0, &mut executor)?;
        }
        let (tokens, vocabulary) = (job.shape.batch * job.shape.seq_len, job.model.config().vocab_size());
        let philox = Philox::new(0, 0);
        let ids: Vec<i32> = (0..tokens as u64).map(|i| (philox.word(i) as usize % vocabulary) as i32).collect();
        let positions: Vec<i32> = (0..tokens).map(|i| (i % job.shape.seq_len) as i32).collect();
        let mut fill = |name: &str, bytes: &[u8]| {
            if let Ok(input) = executor.input_mut(name) {
                input.bytes.copy_from_slice(bytes);
            }
        };
        fill("ids", bytemuck::cast_slice(&ids));
        fill("targets", bytemuck::cast_slice(&ids));
        fill("positions", bytemuck::cast_slice(&positions));
        fill("segment_start", bytemuck::cast_slice(&vec![0i32; tokens]));
        fill("seed", bytemuck::bytes_of(&(1.0f32 / tokens as f32)));
        fill("rng", bytemuck::cast_slice(&[0u32; 4]));
        fill("lr", bytemuck::bytes_of(&1e-4f32));
        Ok(Turns { executor, programs, updates: 0 })
    }

    /// One micro-step of plan `index`, and the update.
    fn step(&mut self, index: usize) -> Result<(), TrainError> {
        self.updates += 1;
        self.executor.input_mut("step")?.bytes.copy_from_slice(&self.updates.to_le_bytes());
        self.executor.run(self.programs[index])?;
        let update = self.programs.last().expect("the update is loaded last");
        Ok(self.executor.run(*update)?)
    }

    /// Runs the first plan in an arena whose free bytes hold a pattern, and counts those that do not, between forward and
    /// backward. `None` if there is no such moment.
    fn live_between_phases(&mut self) -> Result<Option<u64>, TrainError> {
        let mut census = Census { live_bytes: None };
        self.executor.set_poison(true);
        let ran = self.executor.run_observed(self.programs[0], &mut census);
        self.executor.set_poison(false);
        ran?;
        Ok(census.live_bytes)
    }

    /// Of every trained parameter, in the order of the model.
    fn trained_hash(&mut self, parameters: &[Parameter]) -> Result<u64, TrainError> {
        let mut hasher = DefaultHasher::new();
        for parameter in parameters {
            hasher.write(self.executor.state_mut(&parameter.name)?.bytes);
        }
        Ok(hasher.finish())
    }
}
