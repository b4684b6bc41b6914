//! Offload: the third choice for a residual, beside keeping and recomputing it, where the profile has a spill tier.
//!
//! Method: from each of a few plans that keep much or little, residuals are offloaded in the order they are made, since
//! the first made wait longest, as many as the limits ask for (found by bisection); the fastest plan that meets the limits
//! wins, one without offload among them. POFO (Beaumont et al., *Efficient combination of rematerialization and offloading
//! for training DNNs*, 2021) solves a chain for the same three choices exactly; this tries few plans and needs no chain.
//! Invariant: a plan that meets its limits without recomputing is never replaced. Look next at `copies` for how a residual
//! leaves and comes back.

use crate::CompileError;
use crate::copies::{OffloadCandidate, Pace, alive_bytes_offloaded, candidates, offloaded, offloaded_within};
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
        // Of many plans only two are held at a time: what planning takes counts against the limit, too.
        let (mut fastest, mut smallest): (Option<Plan>, Option<Plan>) = (None, None);
        let mut smallest_bytes = usize::MAX;
        let seconds = |plan: &Plan| plan.step_seconds(&self.profile.prices);
        let mut tried = |plan: Plan| {
            smallest_bytes = smallest_bytes.min(plan.activation_bytes());
            if limits.met_by(&plan) {
                if fastest.as_ref().is_none_or(|fastest| seconds(&plan) < seconds(fastest)) {
                    fastest = Some(plan);
                }
            } else if limits.keeps(&plan) && smallest.as_ref().is_none_or(|least| plan.arena_bytes < least.arena_bytes)
            {
                smallest = Some(plan);
            }
            smallest.as_ref().map_or(usize::MAX, |least| least.arena_bytes)
        };
        let mut least_bytes = resident.map_or(usize::MAX, &mut tried);
        for base in self.bases() {
            least_bytes = self.offloading(base, limits, least_bytes, &mut tried);
        }
        match fastest.or(smallest) {
            Some(plan) => Ok(Plan { policy: self.policy.clone(), ..plan }),
            None => Err(CompileError::BudgetDoesNotFit { budget_bytes: activation_bytes.unwrap_or(0), smallest_bytes }),
        }
    }

    /// Whether no offload could do better: there is nothing to fit into, the policy says what is recomputed, or nothing is.
    fn is_settled(&self, plan: &Plan, limits: Limits) -> bool {
        let unlimited = limits.arena_bytes.is_none() && limits.activation_bytes.is_none();
        let searched = matches!(self.policy, Policy::Auto | Policy::Budget(_));
        unlimited || !searched || plan.recomputed_steps().next().is_none()
    }

    /// Whether a plan keeps no more than the policy's budget, if it has one.
    pub(crate) fn keeps_its_budget(&self, plan: &Plan) -> bool {
        match self.policy {
            Policy::Budget(bytes) => plan.activation_bytes() <= *bytes,
            _ => true,
        }
    }

    /// Plans to offload from: the policy's own; for `auto` and a budget, from everything kept to block inputs only.
    pub(crate) fn bases(&self) -> impl Iterator<Item = Plan> {
        let searched = matches!(self.policy, Policy::Auto | Policy::Budget(_));
        let named = if searched { vec![&Policy::None, &Policy::Full] } else { vec![self.policy] };
        let points: &[Point] = if searched { self.steady_points() } else { &[] };
        let kept = |point: &Point| point.footprint.activation_bytes;
        let (least, most) = (points.first().map_or(0, kept), points.last().map_or(0, kept));
        let spread = (0..4).filter_map(move |part| {
            let bytes = least + (most - least) / 4 * part;
            let within = points.partition_point(|point| kept(point) <= bytes);
            within.checked_sub(1).map(|index| self.plan_of(&points[index]))
        });
        named.into_iter().filter_map(|policy| self.with_policy(policy).whole(None).ok()).chain(spread)
    }

    /// Tries the plan with the fewest residuals offloaded that meets the limits; if none does, all that there are: where the
    /// arena is all that is too large, only what may take less than `least_bytes`. Returns what is the least then.
    fn offloading(
        &self,
        base: Plan,
        limits: Limits,
        mut least_bytes: usize,
        tried: &mut dyn FnMut(Plan) -> usize,
    ) -> usize {
        if limits.met_by(&base) {
            return tried(base);
        }
        let (worthwhile, all) = (candidates(&base, LEAST_BYTES), candidates(&base, 1));
        for (candidates, pace) in [(&worthwhile, Pace::Overlapped), (&worthwhile, Pace::Waiting), (&all, Pace::Waiting)]
        {
            if let (Some(cap), None) = (limits.arena_bytes, limits.activation_bytes) {
                let at_least = alive_bytes_offloaded(&base, candidates, self.profile, pace);
                if at_least > cap && at_least >= least_bytes {
                    continue;
                }
            }
            let plan = self.fewest(&base, candidates, limits, pace);
            let meets = limits.met_by(&plan);
            least_bytes = least_bytes.min(tried(plan));
            if meets {
                return least_bytes;
            }
        }
        tried(base)
    }

    fn fewest(&self, base: &Plan, candidates: &[OffloadCandidate], limits: Limits, pace: Pace) -> Plan {
        let most_bytes = limits.arena_bytes.unwrap_or(usize::MAX);
        let within = |count: usize| offloaded_within(base, &candidates[..count], self.profile, pace, most_bytes);
        let (mut low, mut high) = (0, candidates.len());
        let mut found = offloaded(base, candidates, self.profile, pace);
        if !limits.met_by(&found) {
            return found;
        }
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            match within(middle).filter(|plan| limits.met_by(plan)) {
                Some(plan) => (high, found) = (middle, plan),
                None => low = middle,
            }
        }
        found
    }
}
