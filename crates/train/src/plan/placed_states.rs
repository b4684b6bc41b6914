//! Where training states lie, kind by kind, and what an update moves of them.
//!
//! Invariant: read off the plans' own steps, so it says what will run. Look next at `state_levels` for the kinds.

use crate::plan::planning::PlannedStep;
use crate::plan::state_levels::{StateKind, TrainingStates};
use remat_ir::{Storage, ValueId};
use remat_plan::{Action, Place, Plan};
use serde::Serialize;
use std::collections::HashMap;

/// Where the states of a kind lie.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedStates {
    /// What they are for.
    pub kind: StateKind,
    /// Bytes of them in memory.
    pub memory_bytes: usize,
    /// Bytes of them in the file of the folder to offload to.
    pub disk_bytes: usize,
    /// What an update with all its micro-steps reads of them there, and writes.
    pub read_bytes: usize,
    /// Written.
    pub written_bytes: usize,
}

/// All kinds that there are, where some states are off memory; nothing where all are in it.
pub(crate) fn placed_states(planned: &PlannedStep, micro_batches: usize) -> Vec<PlacedStates> {
    let PlannedStep { micro, update, accumulation, .. } = planned;
    let (off, graphs) = (planned.names_off_memory(), planned.graphs());
    let states = TrainingStates::of(&graphs);
    let mut moved: HashMap<String, (usize, usize)> = HashMap::new();
    add_moved(micro, micro_batches, &mut moved);
    accumulation.iter().for_each(|plan| add_moved(plan, micro_batches, &mut moved));
    add_moved(update, 1, &mut moved);
    let mut placed: Vec<PlacedStates> = Vec::new();
    for (value, kind) in states.iter() {
        let at = placed.iter().position(|placed| placed.kind == kind).unwrap_or_else(|| {
            placed.push(PlacedStates { kind, memory_bytes: 0, disk_bytes: 0, read_bytes: 0, written_bytes: 0 });
            placed.len() - 1
        });
        let (read, written) = moved.get(&value.name).copied().unwrap_or_default();
        let of_kind = &mut placed[at];
        let held = if off.contains(&value.name) { &mut of_kind.disk_bytes } else { &mut of_kind.memory_bytes };
        *held += value.ty.bytes();
        (of_kind.read_bytes, of_kind.written_bytes) = (of_kind.read_bytes + read, of_kind.written_bytes + written);
    }
    placed.sort_by_key(|placed| placed.kind);
    if placed.iter().all(|placed| placed.disk_bytes == 0) { Vec::new() } else { placed }
}

/// Adds what so many runs of a plan read and write of each state off memory, by name.
fn add_moved(plan: &Plan, runs: usize, moved: &mut HashMap<String, (usize, usize)>) {
    let graph = &plan.graph;
    let mut add = |value: ValueId, read: usize, written: usize| {
        let (reads, writes) = moved.entry(graph.value(value).name.clone()).or_default();
        (*reads, *writes) = (*reads + runs * read, *writes + runs * written);
    };
    let is_state = |value: ValueId| graph.value(value).storage == Storage::State;
    for step in &plan.steps {
        match step.action {
            Action::Fetch { value, rows, .. } if is_state(value) => add(value, plan.fetch_bytes(value, rows), 0),
            Action::Evict { value, .. } if is_state(value) => add(value, 0, graph.ty(value).bytes()),
            _ => {}
        }
        let bytes = |place: &Place| match *place {
            Place::Spilled(root) => Some((root, graph.ty(root).bytes())),
            _ => None,
        };
        step.reads.iter().filter_map(bytes).for_each(|(root, bytes)| add(root, bytes, 0));
        step.writes.iter().filter_map(bytes).for_each(|(root, bytes)| add(root, 0, bytes));
    }
}
