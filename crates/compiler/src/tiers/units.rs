//! What leaves memory together, and in which order.
//!
//! Method: tables whose rows are looked up go first, since a step reads little of them; then blocks, spread evenly over the
//! model at every number of them, so that each has compute to hide its fetch behind; what belongs to no block, such as the
//! head, last. Invariant: the order depends on the graph and on what is pinned, never on a limit, so that a lower limit
//! only ever adds to what is off memory.

use remat_ir::{Graph, Node, OpDef, OpId, Storage, ValueId};
use std::collections::{BTreeMap, HashSet};

/// Where a weight may begin in a file.
const BLOCK_BYTES: usize = 4096;

/// Weights of fewer bytes stay where they are: a fetch costs more than they take.
const LEAST_BYTES: usize = 4096;

/// Which weights and states are off memory, by name, and how many bytes of them are fetched ahead of their readers at most, or
/// wait to be written back behind them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct WeightsOffMemory {
    /// Names.
    pub weights: HashSet<String>,
    /// Bytes.
    pub ahead_bytes: usize,
}

/// Weights whose place is not the compiler's to choose, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pinned {
    /// Off memory in every plan.
    pub on_disk: HashSet<String>,
    /// Resident in every plan.
    pub in_memory: HashSet<String>,
    /// In files that are there already: off memory, they take no more room on the disk.
    pub in_files: HashSet<String>,
    /// States that are off memory in every plan. None at all is another choice than none of them.
    pub states: Option<HashSet<String>>,
}

/// Weights that leave memory together.
pub(super) struct Unit {
    pub(super) names: Vec<String>,
    /// As they are resident.
    pub(super) bytes: usize,
    /// What they add to a file where they are off memory.
    pub(super) file_bytes: usize,
}

/// What has to be off memory, if anything has, and then what can be, in the order in which it leaves.
pub(super) fn units(graph: &Graph, pinned: &Pinned, alignment: usize) -> (Option<Unit>, Vec<Unit>) {
    let users = graph.users();
    let (mut tables, mut others, mut forced) = (Vec::new(), Vec::new(), Vec::new());
    let mut blocks: BTreeMap<u32, Vec<ValueId>> = BTreeMap::new();
    for (id, value) in graph.value_ids().zip(&graph.values).filter(|(_, value)| value.storage == Storage::Weight) {
        let readers = &users[id.index()];
        let Some(&first) = readers.first() else { continue };
        if pinned.on_disk.contains(&value.name) {
            forced.push(id);
        } else if value.ty.bytes() >= LEAST_BYTES && !pinned.in_memory.contains(&value.name) {
            let is_lookup = |op: &OpId| looks_up(graph.node(*op), id);
            match graph.outermost_region(graph.node(first).region) {
                _ if readers.iter().all(is_lookup) => tables.push(id),
                Some(region) => blocks.entry(region.0).or_default().push(id),
                None => others.push(id),
            }
        }
    }
    let is_written = |id: ValueId| !pinned.in_files.contains(&graph.value(id).name);
    let in_file = |id: ValueId| graph.ty(id).bytes().next_multiple_of(BLOCK_BYTES);
    let unit = |ids: Vec<ValueId>| Unit {
        names: ids.iter().map(|&id| graph.value(id).name.clone()).collect(),
        bytes: ids.iter().map(|&id| graph.ty(id).bytes().next_multiple_of(alignment)).sum(),
        file_bytes: ids.iter().filter(|&&id| is_written(id)).map(|&id| in_file(id)).sum(),
    };
    let blocks: Vec<Vec<ValueId>> = blocks.into_values().collect();
    let spread = spread(blocks.len()).into_iter().map(|index| blocks[index].clone());
    let all = tables.into_iter().map(|id| vec![id]).chain(spread).chain(others.into_iter().map(|id| vec![id]));
    let is_forced = !forced.is_empty() || pinned.states.is_some();
    let mut forced = unit(forced);
    // Their bytes are not those of weights, and whoever pins them counts them.
    forced.names.extend(pinned.states.iter().flatten().cloned());
    (is_forced.then_some(forced), all.map(unit).collect())
}

/// The states of a graph with one of these names, by their roots, in ascending order.
pub(super) fn states_named(graph: &Graph, names: &HashSet<String>) -> Vec<ValueId> {
    let is_named = |id: &ValueId| {
        let value = graph.value(*id);
        value.storage == Storage::State && value.producer.is_none() && names.contains(&value.name)
    };
    graph.value_ids().filter(is_named).collect()
}

/// Whether a node reads only rows of a weight that it looks up.
fn looks_up(node: &Node, weight: ValueId) -> bool {
    node.op.looks_up().is_some_and(|(table, _)| node.inputs[table] == weight)
}

/// The names of some units.
pub(super) fn names_of<'a>(units: impl Iterator<Item = &'a Unit>) -> HashSet<String> {
    units.flat_map(|unit| unit.names.iter().cloned()).collect()
}

/// The numbers below `count` in an order of which every beginning is spread evenly: van der Corput's, to base 2.
fn spread(count: usize) -> Vec<usize> {
    let bits = usize::BITS - count.saturating_sub(1).leading_zeros();
    let reversed = |index: usize| (0..bits).fold(0, |sum, bit| sum | (index >> bit & 1) << (bits - 1 - bit));
    (0..1_usize << bits).map(reversed).filter(|&index| index < count).collect()
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
