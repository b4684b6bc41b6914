//! A plan with fetches of weights and states beside the copies that it has.
//!
//! Invariant: its graph, its order and what leaves it of kept values stay as they are; only where things lie changes. Look
//! next at `copies`, which writes the steps.

use super::windows::Window;
use crate::copies::{OffloadCandidate, apart, candidates, with_copies};
use crate::place::{Residence, Stays, alive_bytes_with, place_within};
use remat_ir::ValueId;
use remat_plan::{Action, DeviceProfile, Plan, Step};

/// A plan, the kept values that leave its arena, the weights and states that come, and all states that are off memory.
pub(super) struct Inserted<'a> {
    pub(super) base: &'a Plan,
    pub(super) stays: &'a [(OffloadCandidate, Residence)],
    pub(super) windows: &'a [Window],
    pub(super) states: &'a [ValueId],
}

impl Inserted<'_> {
    pub(super) fn plan(&self, profile: &DeviceProfile) -> Plan {
        self.plan_within(profile, usize::MAX).expect("every arena is small enough")
    }

    /// The same, if its arena is at most `most_bytes`.
    pub(super) fn plan_within(&self, profile: &DeviceProfile, most_bytes: usize) -> Option<Plan> {
        let apart = apart(self.stays);
        let stays = Stays { apart: &apart, windows: self.windows, states: self.states };
        if alive_bytes_with(&self.base.graph, profile, stays) > most_bytes {
            return None;
        }
        let placed = place_within(self.base.graph.clone(), &self.base.policy, profile, stays, most_bytes)?;
        let copies = !self.stays.is_empty() || !self.windows.is_empty();
        Some(if copies { with_copies(placed, self.stays, self.windows) } else { placed })
    }
}

/// The values that a plan offloads with their stays, read off its steps.
pub(super) fn stays_of(plan: &Plan) -> Vec<(OffloadCandidate, Residence)> {
    let node_of = |step: &Step| match step.action {
        Action::Compute(op) => Some(op.0),
        _ => None,
    };
    // The node that runs at a step or next after it.
    let mut next = plan.graph.nodes.len() as u32;
    let mut node_at = vec![next; plan.steps.len()];
    for (at, step) in plan.steps.iter().enumerate().rev() {
        next = node_of(step).unwrap_or(next);
        node_at[at] = next;
    }
    let away: Vec<bool> = {
        let mut away = vec![false; plan.graph.values.len()];
        for step in &plan.steps {
            if let Action::Evict { value, .. } = step.action {
                away[value.index()] = true;
            }
        }
        away
    };
    let mut stays = Vec::new();
    if !away.contains(&true) {
        return stays;
    }
    for candidate in candidates(plan, 1).into_iter().filter(|candidate| away[candidate.value.index()]) {
        let mut held = plan.buffers.iter().filter(|buffer| buffer.value == candidate.value);
        let (Some(first), Some(second)) = (held.next(), held.next()) else { continue };
        let (until, from) = (node_at[first.last.index()], node_at[second.first.index()]);
        stays.push((candidate, Residence { until, from }));
    }
    stays
}
