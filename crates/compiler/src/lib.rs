//! The compiler of one training step, on one screen.
//!
//! ```text
//! Graph ──differentiate──▶ simplify ──rematerialise──▶ schedule ──place──▶ Plan ──check
//!                                        ▲ kept values: a policy's, or the solver's for a budget
//! ```
//!
//! What ranks do together is put on a queue of its own by `collectives`. Where the profile has a spill tier, `offload` may have
//! kept values copied out of the arena and back.
//!
//! Invariant: a pure function of graph, policy and device profile: no tensor bytes, no device, no clock, no I/O. In debug
//! builds the graph is verified between passes; the finished plan is always checked.

mod answer;
mod catalogue;
mod collectives;
mod copies;
mod differentiate;
mod error;
mod facts;
mod footprint;
mod kept;
mod offload;
mod outline;
mod place;
mod problem;
mod rebuild;
mod rematerialise;
mod schedule;
mod scopes;
mod select;
mod sequence;
mod simplify;
mod solve;
mod survey;
mod tiers;
mod tile;
mod verified;

pub use differentiate::{Gradient, Target, differentiate};
pub use error::CompileError;
pub use footprint::Footprint;
pub use kept::Kept;
pub use place::place;
pub use problem::Problem;
pub use rematerialise::rematerialise;
pub use schedule::schedule;
pub use simplify::simplify;
pub use survey::{FrontierPoint, Survey};
pub use tiers::{OffMemoryPlans, Pinned, WeightsOffMemory, with_weights_off_memory};

use remat_ir::{Graph, ValueId};
use remat_plan::{DeviceProfile, Plan, Policy};
use select::Selection;
use std::collections::HashSet;

/// Compiles a graph whose backward, if it has one, is already there.
///
/// # Errors
/// A malformed graph; a budget below the smallest feasible one; a plan that the checker refuses is a defect of the
/// compiler and is reported as such.
pub fn compile(graph: Graph, policy: &Policy, profile: &DeviceProfile) -> Result<Plan, CompileError> {
    compile_within(graph, policy, profile, None)
}

/// As [`compile`], with an arena of at most `arena_cap_bytes` if that is given.
///
/// # Errors
/// As [`compile`]; an arena cap that no plan of the policy meets.
pub fn compile_within(
    graph: Graph,
    policy: &Policy,
    profile: &DeviceProfile,
    arena_cap_bytes: Option<usize>,
) -> Result<Plan, CompileError> {
    Problem::new(graph, profile)?.plan(policy, arena_cap_bytes)
}

/// What a library user's policy makes of a graph.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What lives from forward to backward.
    pub kept: Kept,
    /// What of it leaves the arena in between.
    pub offload: Vec<ValueId>,
}

/// As [`compile`], with the kept and offloaded values chosen by a function of the simplified graph: for policies of a
/// library user. The plan is recorded as `none`'s, less what was not kept. What backward does not read, or what is made
/// last, is not offloaded: [`Plan::saved_residuals`] says what is.
///
/// # Errors
/// As [`compile`]; whatever the function refuses.
pub fn compile_keeping<E: From<CompileError>>(
    graph: Graph,
    profile: &DeviceProfile,
    choose: impl FnOnce(&Graph) -> Result<Choice, E>,
) -> Result<Plan, E> {
    let problem = Problem::new(graph, profile)?;
    let Choice { kept, offload } = choose(&problem.source)?;
    let plan = Selection::new(&problem, &Policy::None).laid_out(&kept);
    let names: HashSet<&str> = offload.iter().map(|&id| problem.source.value(id).name.as_str()).collect();
    let plan = if names.is_empty() { plan } else { offload::offloading_these(&plan, &names, profile) };
    Ok(problem.checked(plan)?)
}

/// As [`compile_within`], but where no plan of the policy meets the cap, the smallest one that was found.
///
/// # Errors
/// As [`compile`].
pub fn compile_or_smallest(
    graph: Graph,
    policy: &Policy,
    profile: &DeviceProfile,
    arena_cap_bytes: usize,
) -> Result<Plan, CompileError> {
    Problem::new(graph, profile)?.plan_or_smallest(policy, arena_cap_bytes)
}

/// The time-memory frontier of a graph: up to `count` plans, from the smallest to the fastest.
///
/// # Errors
/// A malformed graph.
pub fn frontier(graph: Graph, profile: &DeviceProfile, count: usize) -> Result<Vec<FrontierPoint>, CompileError> {
    Ok(Selection::new(&Problem::new(graph, profile)?, &Policy::Auto).frontier(count))
}

/// The frontier of up to `count` plans, and the smallest limits that can be met: by `policy` for the arena.
///
/// # Errors
/// As [`compile`].
pub fn survey(graph: Graph, policy: &Policy, profile: &DeviceProfile, count: usize) -> Result<Survey, CompileError> {
    Problem::new(graph, profile)?.survey(policy, count)
}
