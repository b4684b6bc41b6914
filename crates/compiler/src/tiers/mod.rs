//! Weights off memory: which weights lie in the spill tier, so that a plan and what stays resident meet a limit together.
//!
//! Method: from a few plans that keep much or little, for each of a few amounts that may be fetched ahead, the fewest weights
//! leave memory that meet the limit (found by bisection); the fastest result wins. Tables whose rows are looked up go first,
//! since a step reads little of them; then blocks, spread evenly over the model at every number of them, so that each has
//! compute to hide its fetch behind; what belongs to no block, such as the head, last. Invariant: a plan without such
//! weights is never changed here. Look next at `windows` for when a weight is in the arena.

mod inserted;
pub(crate) mod windows;

use crate::place::{Stays, alive_bytes_with};
use crate::select::Selection;
use crate::{CompileError, Problem};
use inserted::{Inserted, stays_of};
use remat_ir::{Graph, Op, Storage, ValueId};
use remat_plan::{DeviceProfile, Plan, Policy, check};
use std::collections::{BTreeMap, HashSet};
use windows::{begin_ahead, windows};

/// Weights of fewer bytes stay where they are: a fetch costs more than they take.
const LEAST_BYTES: usize = 4096;

/// Numbers of weights off memory that are tried at most.
const LEVELS: usize = 32;

/// How many of the largest weight may be fetched ahead of their readers.
const AHEAD: [usize; 5] = [32, 8, 2, 1, 0];

/// Which weights are off memory, by name, and how many bytes of them are fetched ahead of their readers at most.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightsOffMemory {
    /// Names.
    pub weights: HashSet<String>,
    /// Bytes.
    pub ahead_bytes: usize,
}

/// The plan of the same graph with these weights off memory where it has them; `source` is what the plan computes.
///
/// # Errors
/// A plan that the checker refuses, which is a defect of the compiler.
pub fn with_weights_off_memory(
    base: &Plan,
    source: &Graph,
    off: &WeightsOffMemory,
    profile: &DeviceProfile,
) -> Result<Plan, CompileError> {
    let plan = off_memory(base, &off.weights, off.ahead_bytes, profile);
    check(&plan, source)?;
    Ok(plan)
}

fn off_memory(base: &Plan, names: &HashSet<String>, ahead_bytes: usize, profile: &DeviceProfile) -> Plan {
    let is_off = |weight: ValueId| names.contains(&base.graph.value(weight).name);
    let mut windows = windows(&base.graph, &is_off);
    begin_ahead(&base.graph, &mut windows, &profile.prices, ahead_bytes);
    Inserted { base, stays: &stays_of(base), windows: &windows }.plan(profile)
}

impl Problem<'_> {
    /// The fastest plan of the policy that was found with weights off memory, whose arena and resident weights take at most
    /// `limit_bytes`; and which weights these are.
    ///
    /// # Errors
    /// A limit that no such plan meets, with the smallest that one does; a budget that cannot be met.
    pub fn plan_off_memory(
        &self,
        policy: &Policy,
        limit_bytes: usize,
    ) -> Result<(Plan, WeightsOffMemory), CompileError> {
        let selection = Selection::new(self, policy);
        let units = units(&self.source);
        let mut search = Search::new(&units, limit_bytes, self.profile, self.weight_bytes());
        for base in selection.bases().chain(selection.plan_or_smallest(Some(0))) {
            if selection.keeps_its_budget(&base) {
                search.try_base(&base);
            }
        }
        let cap_bytes = limit_bytes;
        let Some((plan, off)) = search.found else {
            return Err(CompileError::ArenaDoesNotFit { cap_bytes, smallest_bytes: search.smallest_bytes });
        };
        let plan = self.checked(Plan { policy: policy.clone(), ..plan })?;
        Ok((plan, off))
    }

    /// Bytes of all weights of the graph, as they are resident.
    pub fn weight_bytes(&self) -> usize {
        let weights = self.source.values.iter().filter(|value| value.storage == Storage::Weight);
        weights.map(|value| value.ty.bytes().next_multiple_of(self.profile.rules.slot_alignment_bytes)).sum()
    }
}

/// Weights that leave memory together.
struct Unit {
    names: Vec<String>,
    /// As they are resident.
    bytes: usize,
}

/// What can leave memory, in the order in which it does.
fn units(graph: &Graph) -> Vec<Unit> {
    let users = graph.users();
    let mut tables = Vec::new();
    let mut others = Vec::new();
    let mut blocks: BTreeMap<u32, Vec<ValueId>> = BTreeMap::new();
    for (index, value) in graph.values.iter().enumerate() {
        if value.storage != Storage::Weight || value.ty.bytes() < LEAST_BYTES {
            continue;
        }
        let (id, readers) = (ValueId(index as u32), &users[index]);
        let Some(&first) = readers.first() else { continue };
        let is_lookup = |op: &remat_ir::OpId| matches!(graph.node(*op).op, Op::Embedding(_));
        match graph.outermost_region(graph.node(first).region) {
            _ if readers.iter().all(is_lookup) => tables.push(id),
            Some(region) => blocks.entry(region.0).or_default().push(id),
            None => others.push(id),
        }
    }
    let blocks: Vec<Vec<ValueId>> = blocks.into_values().collect();
    let spread = spread(blocks.len()).into_iter().map(|index| blocks[index].clone());
    let all = tables.into_iter().map(|id| vec![id]).chain(spread).chain(others.into_iter().map(|id| vec![id]));
    let unit = |ids: Vec<ValueId>| Unit {
        names: ids.iter().map(|&id| graph.value(id).name.clone()).collect(),
        bytes: ids.iter().map(|&id| graph.ty(id).bytes()).sum(),
    };
    all.map(unit).collect()
}

/// The numbers below `count` in an order of which every beginning is spread evenly: van der Corput's, to base 2.
fn spread(count: usize) -> Vec<usize> {
    let bits = usize::BITS - count.saturating_sub(1).leading_zeros();
    let reversed = |index: usize| (0..bits).fold(0, |sum, bit| sum | (index >> bit & 1) << (bits - 1 - bit));
    (0..1_usize << bits).map(reversed).filter(|&index| index < count).collect()
}

/// The search for one limit.
struct Search<'a> {
    units: &'a [Unit],
    limit_bytes: usize,
    profile: &'a DeviceProfile,
    weight_bytes: usize,
    found: Option<(Plan, WeightsOffMemory)>,
    seconds: f64,
    smallest_bytes: usize,
}

impl<'a> Search<'a> {
    fn new(units: &'a [Unit], limit_bytes: usize, profile: &'a DeviceProfile, weight_bytes: usize) -> Self {
        let (found, seconds, smallest_bytes) = (None, f64::INFINITY, usize::MAX);
        Search { units, limit_bytes, profile, weight_bytes, found, seconds, smallest_bytes }
    }

    fn names(&self, units: usize) -> HashSet<String> {
        self.units[..units].iter().flat_map(|unit| unit.names.iter().cloned()).collect()
    }

    fn resident_bytes(&self, units: usize) -> usize {
        self.weight_bytes - self.units[..units].iter().map(|unit| unit.bytes).sum::<usize>()
    }

    /// Numbers of units that are tried: all, or evenly chosen ones with the last.
    fn levels(&self) -> Vec<usize> {
        let count = self.units.len();
        let mut levels: Vec<usize> = (1..=LEVELS.min(count)).map(|level| level * count / LEVELS.min(count)).collect();
        levels.dedup();
        levels
    }

    /// Tries a plan with the fewest units off memory, for every amount ahead.
    fn try_base(&mut self, base: &Plan) {
        let levels = self.levels();
        let largest = self.units.iter().map(|unit| unit.bytes).max().unwrap_or(0);
        let stays = stays_of(base);
        for ahead in AHEAD {
            let ahead_bytes = ahead * largest;
            let alive = |level: usize| {
                let names = self.names(level);
                let is_off = |weight: ValueId| names.contains(&base.graph.value(weight).name);
                let mut windows = windows(&base.graph, &is_off);
                begin_ahead(&base.graph, &mut windows, &self.profile.prices, ahead_bytes);
                let apart: Vec<_> = stays.iter().map(|(candidate, stay)| (candidate.value, *stay)).collect();
                let stays = Stays { apart: &apart, windows: &windows };
                self.resident_bytes(level) + alive_bytes_with(&base.graph, self.profile, stays)
            };
            let least = levels.partition_point(|&level| alive(level) > self.limit_bytes).min(levels.len().saturating_sub(1));
            // What is alive fits; where it lies in the arena may take a little more.
            for &level in levels.iter().skip(least).take(3) {
                if self.take(base, level, ahead_bytes) {
                    break;
                }
            }
            if let Some(&all) = levels.last().filter(|_| self.found.is_none()) {
                self.take(base, all, ahead_bytes);
            }
        }
    }

    /// Whether the plan fits; it is kept if it is the fastest.
    fn take(&mut self, base: &Plan, level: usize, ahead_bytes: usize) -> bool {
        let weights = self.names(level);
        let plan = off_memory(base, &weights, ahead_bytes, self.profile);
        let bytes = self.resident_bytes(level) + plan.arena_bytes;
        self.smallest_bytes = self.smallest_bytes.min(bytes);
        if bytes > self.limit_bytes {
            return false;
        }
        let seconds = plan.step_seconds(&self.profile.prices);
        if seconds < self.seconds {
            self.seconds = seconds;
            self.found = Some((plan, WeightsOffMemory { weights, ahead_bytes }));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn every_beginning_is_spread() {
        assert_eq!(spread(8), [0, 4, 2, 6, 1, 5, 3, 7]);
        assert_eq!(spread(5), [0, 4, 2, 1, 3]);
        assert_eq!((spread(1), spread(0)), (vec![0], vec![]));
    }
}
