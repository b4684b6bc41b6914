//! Offload: the third choice for a residual, beside keeping and recomputing it, where the profile has a spill tier.
//!
//! Method: from each of a few plans that keep much or little, residuals are offloaded in the order they are made, since
//! the first made wait longest, as many as the limits ask for (found by bisection); the fastest plan that meets the limits
//! wins, one without offload among them. POFO (Beaumont et al., *Efficient combination of rematerialization and offloading
//! for training DNNs*, 2021) solves a chain for the same three choices exactly; this tries few plans and needs no chain.
//! Invariant: a plan that meets its limits without recomputing is never replaced. Look next at `copies` for how a residual
//! leaves and comes back.

use crate::CompileError;
use crate::copies::{Candidate, Pace, candidates, offloaded};
use crate::select::Selection;
use crate::solve::Point;
use remat_plan::{DeviceProfile, Plan, Policy};
use std::collections::HashSet;

/// Smaller values are worth a copy only if nothing else meets the limits.
const LEAST_BYTES: usize = 4096;

/// What a plan has to meet.
#[derive(Debug, Clone, Copy)]
struct Limits {
    arena_bytes: Option<usize>,
    activation_bytes: Option<usize>,
}

impl Limits {
    fn keeps(self, plan: &Plan) -> bool {
        self.activation_bytes.is_none_or(|limit| plan.activation_bytes() <= limit)
    }

    fn met_by(self, plan: &Plan) -> bool {
        self.arena_bytes.is_none_or(|limit| plan.arena_bytes <= limit) && self.keeps(plan)
    }
}

/// The plan with the residuals of these names offloaded.
pub(crate) fn offloading_these(base: &Plan, names: &HashSet<&str>, profile: &DeviceProfile) -> Plan {
    let mut chosen = candidates(base, 1);
    chosen.retain(|candidate| names.contains(base.graph.value(candidate.value).name.as_str()));
    offloaded(base, &chosen, profile, Pace::Overlapped)
}

impl Selection<'_> {
    /// What offloading makes of the choice between keeping and recomputing alone: a faster plan within the limits, or one
    /// where there was none; the smallest that keeps little enough where none meets the arena's cap.
    pub(crate) fn with_offload(
        &self,
        resident: Result<Plan, CompileError>,
        cap: Option<usize>,
    ) -> Result<Plan, CompileError> {
        let activation_bytes = match self.policy {
            Policy::Budget(bytes) => Some(*bytes),
            _ => None,
        };
        let limits = Limits { arena_bytes: cap, activation_bytes };
        match &resident {
            Err(error) if error.smallest_bytes().is_none() => return resident,
            Ok(plan) if limits.met_by(plan) && self.is_settled(plan, limits) => return resident,
            _ => {}
        }
        let mut plans: Vec<Plan> = resident.into_iter().collect();
        plans.extend(self.bases().into_iter().flat_map(|base| self.offloading(base, limits)));
        let seconds = |plan: &Plan| plan.step_seconds(&self.profile.prices);
        let fitting = plans.iter().filter(|plan| limits.met_by(plan));
        let fastest = fitting.min_by(|a, b| seconds(a).total_cmp(&seconds(b)));
        let smallest = || plans.iter().filter(|plan| limits.keeps(plan)).min_by_key(|plan| plan.arena_bytes);
        match (fastest.or_else(smallest), activation_bytes) {
            (Some(plan), _) => Ok(Plan { policy: self.policy.clone(), ..plan.clone() }),
            (None, budget) => {
                let smallest_bytes = plans.iter().map(Plan::activation_bytes).min().unwrap_or(0);
                Err(CompileError::BudgetDoesNotFit { budget_bytes: budget.unwrap_or(0), smallest_bytes })
            }
        }
    }

    /// Whether no offload could do better: there is nothing to fit into, the policy says what is recomputed, or nothing is.
    fn is_settled(&self, plan: &Plan, limits: Limits) -> bool {
        let unlimited = limits.arena_bytes.is_none() && limits.activation_bytes.is_none();
        let searched = matches!(self.policy, Policy::Auto | Policy::Budget(_));
        unlimited || !searched || plan.recomputed_steps().next().is_none()
    }

    /// Plans to offload from: the policy's own; for `auto` and a budget, from everything kept to block inputs only.
    fn bases(&self) -> Vec<Plan> {
        let named = |policy| self.with_policy(policy).resident(None).ok();
        if !matches!(self.policy, Policy::Auto | Policy::Budget(_)) {
            return named(self.policy).into_iter().collect();
        }
        let mut plans: Vec<Plan> = [&Policy::None, &Policy::Full].into_iter().filter_map(named).collect();
        let points = self.points(true);
        let kept = |point: &Point| point.footprint.activation_bytes;
        let (least, most) = (points.first().map_or(0, kept), points.last().map_or(0, kept));
        for part in 0..4 {
            let bytes = least + (most - least) / 4 * part;
            let within = points.partition_point(|point| kept(point) <= bytes);
            plans.extend(within.checked_sub(1).map(|index| self.plan_of(points.get(index))));
        }
        plans
    }

    /// The plan with the fewest residuals offloaded that meets the limits; if none does, all that were tried.
    fn offloading(&self, base: Plan, limits: Limits) -> Vec<Plan> {
        if limits.met_by(&base) {
            return vec![base];
        }
        let (worthwhile, all) = (candidates(&base, LEAST_BYTES), candidates(&base, 1));
        let mut tried = Vec::new();
        for (candidates, pace) in [(&worthwhile, Pace::Overlapped), (&worthwhile, Pace::Waiting), (&all, Pace::Waiting)]
        {
            let plan = self.fewest(&base, candidates, limits, pace);
            if limits.met_by(&plan) {
                return vec![plan];
            }
            tried.push(plan);
        }
        tried.push(base);
        tried
    }

    fn fewest(&self, base: &Plan, candidates: &[Candidate], limits: Limits, pace: Pace) -> Plan {
        let plan = |count: usize| offloaded(base, &candidates[..count], self.profile, pace);
        let (mut low, mut high) = (0, candidates.len());
        let mut found = plan(high);
        if !limits.met_by(&found) {
            return found;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let tried = plan(middle);
            if limits.met_by(&tried) {
                (high, found) = (middle, tried);
            } else {
                low = middle;
            }
        }
        found
    }
}
