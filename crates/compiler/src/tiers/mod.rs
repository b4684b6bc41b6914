//! Weights and states off memory: which of them lie in the spill tier, so that a plan and what stays resident meet a limit
//! together.
//!
//! Invariant: a plan without such weights is never changed here, and one with them computes the same graph in the same order,
//! so not a bit of a result depends on where weights lie. Look next at `units` for what leaves memory, at `windows` for when a
//! weight is in the arena, and at `search` for the choice.

mod inserted;
mod outlook;
mod search;
mod units;
pub(crate) mod windows;

use crate::select::Selection;
use crate::{CompileError, Problem};
use inserted::{Inserted, stays_of};
use remat_ir::{Graph, Storage, ValueId};
use remat_plan::{DeviceProfile, Plan, Policy, check};
use search::Search;
pub use units::{Pinned, WeightsOffMemory};
use units::{states_named, units};
use windows::{begin_ahead, end_behind, starts, windows};

/// The plan of the same graph with these weights and states off memory where it has them; `source` is what the plan computes.
///
/// # Errors
/// A plan that the checker refuses, which is a defect of the compiler.
pub fn with_weights_off_memory(
    base: &Plan,
    source: &Graph,
    off: &WeightsOffMemory,
    profile: &DeviceProfile,
) -> Result<Plan, CompileError> {
    let is_off = |weight: ValueId| off.weights.contains(&base.graph.value(weight).name);
    let mut windows = windows(&base.graph, &is_off);
    let starts = starts(&base.graph, &profile.prices);
    begin_ahead(&starts, &mut windows, &profile.prices, off.ahead_bytes);
    end_behind(&starts, &mut windows, &profile.prices, off.ahead_bytes);
    let states = states_named(&base.graph, &off.weights);
    let plan = Inserted { base, stays: &stays_of(base), windows: &windows, states: &states }.plan(profile);
    check(&plan, source)?;
    Ok(plan)
}

/// All plans with weights off memory that are chosen from for one graph and policy.
pub struct OffMemoryPlans<'p> {
    problem: &'p Problem<'p>,
    policy: Policy,
    search: Search<'p>,
}

impl Problem<'_> {
    /// What there is to choose from for a policy: found once for all limits.
    pub fn off_memory<'p>(&'p self, policy: &Policy, pinned: &Pinned) -> OffMemoryPlans<'p> {
        let selection = Selection::new(self, policy);
        let units = units(&self.source, pinned, self.profile.rules.slot_alignment_bytes);
        let bases = selection.bases().chain(selection.plan_or_smallest(Some(0)));
        let within = bases.filter(|base| selection.keeps_its_budget(base));
        let search = Search::of(within, units, self.weight_bytes(), self.profile);
        OffMemoryPlans { problem: self, policy: policy.clone(), search }
    }

    /// Bytes of all weights of the graph, as they are resident.
    pub fn weight_bytes(&self) -> usize {
        let weights = self.source.values.iter().filter(|value| value.storage == Storage::Weight);
        weights.map(|value| value.ty.bytes().next_multiple_of(self.profile.rules.slot_alignment_bytes)).sum()
    }
}

impl OffMemoryPlans<'_> {
    /// The least that weights off memory of any plan take in a file.
    pub fn least_file_bytes(&self) -> usize {
        self.search.least_file_bytes()
    }

    /// The least that arena and resident weights of any plan take together whose other weights take at most `file_bytes`.
    pub fn smallest_bytes(&self, file_bytes: usize) -> usize {
        self.search.smallest_bytes(file_bytes)
    }

    /// The fastest plan whose arena and resident weights take at most `limit_bytes`, and whose other weights take at most
    /// `file_bytes`; and which weights these are.
    ///
    /// # Errors
    /// Limits that no such plan meets, with the smallest `limit_bytes` that one does.
    pub fn plan(&self, limit_bytes: usize, file_bytes: usize) -> Result<(Plan, WeightsOffMemory), CompileError> {
        let Some((plan, off)) = self.search.fastest(limit_bytes, file_bytes) else {
            let smallest_bytes = self.smallest_bytes(file_bytes);
            return Err(CompileError::ArenaDoesNotFit { cap_bytes: limit_bytes, smallest_bytes });
        };
        Ok((self.problem.checked(Plan { policy: self.policy.clone(), ..plan })?, off))
    }
}
