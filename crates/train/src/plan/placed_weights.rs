//! Where the frozen weights of a plan lie, module by module.
//!
//! Invariant: read off the plan's own steps, so it says what will run. Look next at `placement` for what the settings say.

use remat_ir::{Storage, ValueId};
use remat_plan::{Action, Plan, Tier};
use serde::Serialize;
use std::collections::{HashMap, HashSet};

/// Where the weights of a module lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WeightTier {
    /// In memory.
    Host,
    /// In the file of the folder to offload to.
    Disk,
    /// In the model's own files.
    ModelFiles,
}

impl WeightTier {
    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            WeightTier::Host => "memory",
            WeightTier::Disk => "disk",
            WeightTier::ModelFiles => "model's files",
        }
    }
}

/// The weights of a module that lie in one place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedWeights {
    /// A layer; outside of these, the weight's own name.
    pub module: String,
    /// Where they lie.
    pub tier: WeightTier,
    /// How much that is.
    pub bytes: usize,
    /// What a micro-step reads of it; 0 in memory.
    pub read_bytes: usize,
    /// In how many fetches of a whole weight, of the one that is fetched most often.
    pub fetches: usize,
    /// Whether only rows that are looked up are read.
    pub by_rows: bool,
}

/// All of them in the order in which they are first read, where some are off memory; none of a plan with resident weights.
pub(crate) fn placed_weights(plan: &Plan, in_files: &HashSet<String>) -> Vec<PlacedWeights> {
    if plan.spilled.is_empty() {
        return Vec::new();
    }
    let graph = &plan.graph;
    let mut read: HashMap<ValueId, (usize, usize, bool)> = HashMap::new();
    for step in &plan.steps {
        if let Action::Fetch { value, rows, .. } = step.action {
            let (bytes, fetches, by_rows) = read.entry(value).or_default();
            *bytes += plan.fetch_bytes(value, rows);
            *fetches += 1;
            *by_rows |= rows.is_some();
        }
    }
    let users = graph.users();
    let mut weights: Vec<(u32, ValueId)> = graph
        .value_ids()
        .filter(|&id| graph.value(id).storage == Storage::Weight)
        .filter_map(|id| Some((users[id.index()].first()?.0, id)))
        .collect();
    weights.sort_unstable();
    let mut placed: Vec<PlacedWeights> = Vec::new();
    for (first, id) in weights {
        let value = graph.value(id);
        let layer = graph.outermost_region(graph.nodes[first as usize].region);
        let module = layer.map_or_else(|| value.name.clone(), |layer| graph.regions[layer.index()].name.clone());
        let tier = match plan.tier(id) {
            Tier::Resident => WeightTier::Host,
            Tier::Spill if in_files.contains(&value.name) => WeightTier::ModelFiles,
            Tier::Spill => WeightTier::Disk,
        };
        let (read_bytes, fetches, by_rows) = read.get(&id).copied().unwrap_or_default();
        let bytes = value.ty.bytes();
        match placed.iter_mut().find(|placed| placed.module == module && placed.tier == tier) {
            Some(placed) => {
                (placed.bytes, placed.read_bytes) = (placed.bytes + bytes, placed.read_bytes + read_bytes);
                (placed.fetches, placed.by_rows) = (placed.fetches.max(fetches), placed.by_rows | by_rows);
            }
            None => placed.push(PlacedWeights { module, tier, bytes, read_bytes, fetches, by_rows }),
        }
    }
    placed
}
