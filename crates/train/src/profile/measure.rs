//! Policies measured side by side, before committing to one: memory and time of the same step under each.
//!
//! Method: for memory, each policy alone is loaded and run twice, after the process's high-water mark was set back. For
//! time, all plans are loaded into one executor and take turns, a warm-up round first, so that drift of the machine
//! hits all alike; the median counts. Planned times come from the machine's prices, which are measured on other shapes.
//! Invariant: the same tokens and weights under every policy, so that what they train must be equal in every bit.

use crate::plan::memory::Buffers;
use crate::plan::planning::{Limits, fitting};
use crate::plan::process_memory;
use crate::prices::machine_prices::{Measuring, measured_profile};
use crate::prices::pace::PaceWatch;
use crate::prices::spill::with_spill;
use crate::profile::job::ProfileJob;
use crate::profile::row::{ProfileRow, RefusedPolicy};
use crate::profile::side_by_side::LoadedPolicies;
use crate::record::bound_by::{bound_by, limiting};
use crate::{MemoryPart, TrainError};
use remat_compiler::Problem;
use remat_ir::OpDef;
use remat_plan::{Action, DeviceProfile, Plan, Policy};
use remat_step::Trained;
use remat_step::device::release_freed_memory;
use std::time::Instant;

/// What of the account is the model's, whatever the batch.
const MODEL_PARTS: [MemoryPart; 4] =
    [MemoryPart::Weights, MemoryPart::TrainedParameters, MemoryPart::Gradients, MemoryPart::Optimizer];

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
    process_memory::reset_peak();
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
        process_memory::reset_peak();
        let (plan, _, account) = fitting((problem, &[]), &[update], policy, device, Buffers::default(), limits)?;
        process_memory::reset_peak();
        // Loads, runs twice (adapters that start at zero have gradients only then), and gives the memory back before the
        // next policy is measured.
        let mut policies = LoadedPolicies::load(job, trained, vec![plan.clone()], update.clone())?;
        policies.step(0)?;
        policies.step(0)?;
        let trained_hash = policies.trained_hash(trained)?;
        let measured_peak_bytes = process_memory::peak_resident_bytes();
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
