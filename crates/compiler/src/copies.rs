//! Copy steps: residuals that leave the arena when they were made and come back before backward reads them; weights and states
//! that come before their readers, and of states what was made of them, which goes back.
//!
//! Method: each copy has its time on the copy queue, by the measured bandwidth: copies out begin when the value is there,
//! one after the other; copies back end just before their reader, planned from the last to the first. A slot is free when
//! its copy is predicted to be done, and whoever takes it waits for that copy, so a wrong price costs time and never a
//! value. Invariant: the graph is the one that would run without offload, so not a bit of the result changes. Look next at
//! `offload` for what is copied.

use crate::place::{Residence, Stays, alive_bytes_with, place_with, place_within};
use crate::tiers::windows::Window;
use remat_ir::{Graph, Phase, Storage, ValueId};
use remat_plan::{
    Action, Buffer, BufferId, DeviceProfile, Place, Plan, Prices, Queue, Slot, SpillPrices, Step, StepId, Tier,
};
use std::collections::HashMap;

/// When slots of the arena are free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pace {
    /// When the copies are predicted to be done, so that no kernel waits if the prices are right.
    Overlapped,
    /// At once: the arena is as small as it can be, and kernels wait for copies.
    Waiting,
}

/// When a residual is made and read, in nodes of the graph's order.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OffloadCandidate {
    pub(crate) value: ValueId,
    pub(crate) made: u32,
    last_forward: u32,
    /// The first reader behind the forward.
    pub(crate) first_backward: u32,
}

/// Residuals of at least so many bytes that can be offloaded, in the order they are made.
pub(crate) fn candidates(plan: &Plan, least_bytes: usize) -> Vec<OffloadCandidate> {
    let graph = &plan.graph;
    let (late, turn) = (first_late(graph), turn(graph));
    let users = graph.users();
    let mut found = Vec::new();
    for (index, value) in graph.values.iter().enumerate() {
        let id = ValueId(index as u32);
        let Some((made, _)) = value.producer.filter(|(made, _)| made.0 < late) else { continue };
        let readers = &users[index];
        let Some(first_backward) = readers.iter().map(|op| op.0).filter(|&op| op >= turn).min() else { continue };
        let last_forward = readers.iter().map(|op| op.0).filter(|&op| op < turn).max().unwrap_or(made.0);
        let large = value.storage == Storage::Arena && value.ty.bytes() >= least_bytes;
        // It has to be able to leave before the forward ends; what the loss makes for backward would be back at once.
        if large && !graph.outputs.contains(&id) && made.0 + 1 < late {
            found.push(OffloadCandidate { value: id, made: made.0, last_forward, first_backward });
        }
    }
    found.sort_by_key(|candidate| candidate.made);
    found
}

/// The first node of backward, recomputation included.
fn first_late(graph: &Graph) -> u32 {
    let late = |node: &remat_ir::Node| node.phase == Phase::Backward || node.recompute_of.is_some();
    graph.nodes.iter().position(late).unwrap_or(graph.nodes.len()) as u32
}

/// The node behind the forward's last, where a plan counts what is kept: a loss that makes its gradient is forward, and
/// some of backward comes before it.
fn turn(graph: &Graph) -> u32 {
    let forward = |node: &remat_ir::Node| node.phase == Phase::Forward && node.recompute_of.is_none();
    graph.nodes.iter().rposition(forward).map_or(0, |last| last as u32 + 1)
}

/// Residences of the candidates: until when each stays, and from when it is back.
pub(crate) fn residences(
    graph: &Graph,
    candidates: &[OffloadCandidate],
    prices: &Prices,
    pace: Pace,
) -> Vec<(OffloadCandidate, Residence)> {
    let spill = prices.spill.unwrap_or_else(SpillPrices::nominal);
    let mut now = 0.0;
    let mut starts: Vec<f64> = Vec::with_capacity(graph.nodes.len());
    for node in &graph.nodes {
        starts.push(now);
        now += prices.seconds(graph, node);
    }
    let turn = turn(graph);
    let bytes = |candidate: &OffloadCandidate| graph.ty(candidate.value).bytes() as f64;
    let mut free_from = 0.0;
    let mut stays: Vec<(OffloadCandidate, Residence)> = Vec::with_capacity(candidates.len());
    for &candidate in candidates {
        let made_at = starts.get(candidate.made as usize + 1).copied().unwrap_or(now);
        free_from = f64::max(free_from, made_at) + bytes(&candidate) / spill.write_bytes_per_second;
        let done = starts.partition_point(|&start| start < free_from) as u32;
        let soonest = candidate.last_forward.max(candidate.made + 1);
        let until = if pace == Pace::Waiting { soonest } else { done.saturating_sub(1).clamp(soonest, turn - 1) };
        stays.push((candidate, Residence { until, from: candidate.first_backward }));
    }
    stays.sort_by_key(|(candidate, _)| std::cmp::Reverse(candidate.first_backward));
    let mut end = f64::INFINITY;
    for (candidate, residence) in &mut stays {
        end = f64::min(end, starts[candidate.first_backward as usize]) - bytes(candidate) / spill.read_bytes_per_second;
        let begin = starts.partition_point(|&start| start <= end).saturating_sub(1) as u32;
        residence.from = match pace {
            Pace::Overlapped => begin.clamp(turn, candidate.first_backward),
            Pace::Waiting => candidate.first_backward,
        };
    }
    stays.sort_by_key(|(candidate, _)| candidate.made);
    stays
}

/// The plan of `base`'s graph with the candidates offloaded.
pub(crate) fn offloaded(base: &Plan, candidates: &[OffloadCandidate], profile: &DeviceProfile, pace: Pace) -> Plan {
    let stays = residences(&base.graph, candidates, &profile.prices, pace);
    let apart = apart(&stays);
    let plan = place_with(base.graph.clone(), &base.policy, profile, Stays { apart: &apart, ..Stays::NONE });
    with_copies(plan, &stays, &[])
}

/// The same, if its arena is at most `most_bytes`.
pub(crate) fn offloaded_within(
    base: &Plan,
    candidates: &[OffloadCandidate],
    profile: &DeviceProfile,
    pace: Pace,
    most_bytes: usize,
) -> Option<Plan> {
    let stays = residences(&base.graph, candidates, &profile.prices, pace);
    let apart = apart(&stays);
    let both = Stays { apart: &apart, ..Stays::NONE };
    if alive_bytes_with(&base.graph, profile, both) > most_bytes {
        return None;
    }
    let placed = place_within(base.graph.clone(), &base.policy, profile, both, most_bytes);
    placed.map(|plan| with_copies(plan, &stays, &[]))
}

/// Where the candidates are, as placement asks for it.
pub(crate) fn apart(stays: &[(OffloadCandidate, Residence)]) -> Vec<(ValueId, Residence)> {
    stays.iter().map(|(candidate, stay)| (candidate.value, *stay)).collect()
}

/// The most bytes that this has alive at once: its arena is no smaller.
pub(crate) fn alive_bytes_offloaded(
    base: &Plan,
    candidates: &[OffloadCandidate],
    profile: &DeviceProfile,
    pace: Pace,
) -> usize {
    let stays = residences(&base.graph, candidates, &profile.prices, pace);
    alive_bytes_with(&base.graph, profile, Stays { apart: &apart(&stays), ..Stays::NONE })
}

/// A copy out of the arena: of which buffer, behind which node.
struct Going {
    value: ValueId,
    buffer: usize,
    behind: u32,
}

/// What leaves the arena: residuals when they are made, then states when they were updated, each list in its order.
fn going(
    buffers: &[Buffer],
    stays: &[(OffloadCandidate, Residence)],
    windows: &[Window],
    seconds_from: usize,
) -> Vec<Going> {
    let mut buffer_of: HashMap<ValueId, usize> = HashMap::new();
    for (index, buffer) in buffers[..seconds_from].iter().enumerate() {
        buffer_of.entry(buffer.value).or_insert(index);
    }
    let residual = |(candidate, _): &(OffloadCandidate, Residence)| Going {
        value: candidate.value,
        buffer: buffer_of[&candidate.value],
        behind: candidate.made,
    };
    let state = |(index, window): (usize, &Window)| Going {
        value: window.weight,
        buffer: seconds_from + stays.len() + index,
        behind: window.last(),
    };
    let written = windows.iter().enumerate().filter(|(_, window)| window.written);
    stays.iter().map(residual).chain(written.map(state)).collect()
}

/// Adds the copy steps and the waits to a plan whose residents are placed by node. The second buffers stand behind the
/// first ones, in the order of `stays`, and behind them those of the windows of weights and states.
pub(crate) fn with_copies(plan: Plan, stays: &[(OffloadCandidate, Residence)], windows: &[Window]) -> Plan {
    let Plan { graph, steps: computed, mut buffers, arena_bytes, policy, rules, spilled } = plan;
    let fetched = stays.len() + windows.len();
    let seconds_from = buffers.len() - fetched;
    let coming_back = |index: usize| match windows.get(index.wrapping_sub(stays.len())) {
        Some(window) => (window.from, window.first()),
        None => (stays[index].1.from, stays[index].0.first_backward),
    };
    let leaving = going(&buffers, stays, windows, seconds_from);
    // Both lists are walked once beside the nodes.
    let sorted = |count: usize, key: &dyn Fn(usize) -> (u32, u32)| {
        let mut order: Vec<usize> = (0..count).collect();
        order.sort_by_key(|&index| (key(index), index));
        order.into_iter().peekable()
    };
    let mut coming = sorted(fetched, &coming_back);
    let mut going = sorted(leaving.len(), &|index| (leaving[index].behind, 0));
    let mut steps: Vec<Step> = Vec::with_capacity(computed.len() + leaving.len() + fetched);
    let mut step_of = vec![StepId(0); computed.len()];
    let (mut evict_of, mut fetch_of) = (vec![StepId(0); leaving.len()], vec![StepId(0); fetched]);
    for (node, step) in computed.into_iter().enumerate() {
        while let Some(index) = coming.next_if(|&index| coming_back(index).0 as usize == node) {
            // What its bytes held before was read by then; nothing did before the first node.
            let before: Vec<StepId> = node.checked_sub(1).map(|before| step_of[before]).into_iter().collect();
            let second = Place::Arena(BufferId((seconds_from + index) as u32));
            let window = windows.get(index.wrapping_sub(stays.len()));
            let value = window.map_or_else(|| stays[index].0.value, |window| window.weight);
            let rows = window.and_then(|window| window.rows);
            let action = Action::Fetch { value, tier: Tier::Spill, rows };
            fetch_of[index] = StepId(steps.len() as u32);
            before.iter().for_each(|before| steps[before.index()].signals = true);
            steps.push(copy_step(action, rows.map(Place::Input).into_iter().collect(), vec![second], before));
        }
        step_of[node] = StepId(steps.len() as u32);
        steps.push(step);
        while let Some(index) = going.next_if(|&index| leaving[index].behind as usize == node) {
            let Going { value, buffer, .. } = leaving[index];
            let action = Action::Evict { value, tier: Tier::Spill };
            evict_of[index] = StepId(steps.len() as u32);
            let from = Place::Arena(BufferId(buffer as u32));
            steps.push(copy_step(action, vec![from], Vec::new(), vec![step_of[node]]));
            steps[step_of[node].index()].signals = true;
        }
    }
    let end = StepId(steps.len().saturating_sub(1) as u32);
    for (index, buffer) in buffers.iter_mut().enumerate() {
        let at_end = buffer.last.index() + 1 == step_of.len() && graph.outputs.contains(&buffer.value);
        buffer.last = if at_end { end } else { step_of[buffer.last.index()] };
        buffer.first = match index.checked_sub(seconds_from) {
            Some(stay) => fetch_of[stay],
            None => step_of[buffer.first.index()],
        };
    }
    for (leaving, &evict) in leaving.iter().zip(&evict_of) {
        let last = &mut buffers[leaving.buffer].last;
        *last = evict.max(*last);
    }
    for (index, &fetch) in fetch_of.iter().enumerate() {
        let reader = step_of[coming_back(index).1 as usize].index();
        steps[reader].waits.push(fetch);
    }
    let mut plan = Plan { graph, steps, buffers, arena_bytes, policy, rules, spilled };
    wait_for_evictions(&mut plan, &leaving, &evict_of);
    plan
}

fn copy_step(action: Action, reads: Vec<Place>, writes: Vec<Place>, waits: Vec<StepId>) -> Step {
    Step { action, queue: Queue::Copy, reads, writes, workspace: None, waits, signals: true }
}

/// Lets the first kernel that writes into bytes of what is copied out wait for that copy, and the first that streams it.
fn wait_for_evictions(plan: &mut Plan, leaving: &[Going], evict_of: &[StepId]) {
    let taken = taken(plan);
    let mut streaming: HashMap<ValueId, Vec<usize>> = HashMap::new();
    for (at, step) in plan.steps.iter().enumerate() {
        for place in &step.reads {
            if let Place::Spilled(root) = *place {
                streaming.entry(root).or_default().push(at);
            }
        }
    }
    for (&Going { value, buffer, .. }, &evict) in leaving.iter().zip(evict_of) {
        let streams = streaming.get(&value).map_or(&[][..], |steps| steps);
        let streaming = streams.get(streams.partition_point(|&at| at < evict.index())).copied();
        for waiting in first_taker(plan, &taken, buffer).into_iter().chain(streaming) {
            plan.steps[waiting].waits.push(evict);
        }
    }
    for step in &mut plan.steps {
        step.waits.sort_unstable();
        step.waits.dedup();
    }
}

/// Which bytes kernels begin to use, in the order of the steps.
fn taken(plan: &Plan) -> Vec<(usize, Slot)> {
    let mut taken = Vec::with_capacity(plan.buffers.len());
    for (at, step) in plan.steps.iter().enumerate().filter(|(_, step)| step.queue == Queue::Compute) {
        for place in &step.writes {
            if let Place::Arena(id) = place {
                taken.push((at, plan.buffers[id.index()].slot));
            }
        }
        taken.extend(step.workspace.map(|slot| (at, slot)));
    }
    taken
}

/// The first kernel that writes into bytes of a buffer after its last step; copies follow each other anyway.
fn first_taker(plan: &Plan, taken: &[(usize, Slot)], buffer: usize) -> Option<usize> {
    let (slot, last) = (plan.buffers[buffer].slot, plan.buffers[buffer].last.index());
    let later = &taken[taken.partition_point(|&(step, _)| step <= last)..];
    later.iter().find(|(_, taken)| taken.overlaps(slot)).map(|&(step, _)| step)
}
