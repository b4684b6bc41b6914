//! One order in which each unit is a single step: a unit runs as soon as all that it reads is there.
//!
//! Method: Kahn's topological sort, the lowest index first, so that what is not moved for a unit stays where it was. A
//! unit that waits for what waits for it cannot be in one piece and is given up. O(n log n) in nodes.

use super::unit::Unit;
use crate::rebuild::Rebuild;
use remat_ir::{Graph, OpDef, OpId};
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// What stands in one place of the order: a node, or a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Item {
    Node(OpId),
    Unit(usize),
}

/// The graph with `emit` having written each unit, where it can be in one piece.
pub(super) fn ordered(
    graph: &Graph,
    units: &[Unit],
    mut emit: impl FnMut(&Graph, &mut Rebuild<'_>, &mut super::rewrite::Written, &Unit),
) -> Graph {
    let mut units: Vec<&Unit> = units.iter().collect();
    let order = loop {
        match order(graph, &units) {
            Ok(order) => break order,
            Err(stuck) => drop(units.remove(stuck)),
        }
    };
    let mut copy = Rebuild::new(graph);
    let mut written = super::rewrite::Written::of(graph);
    for item in order {
        match item {
            Item::Node(id) => copy.copy(id),
            Item::Unit(index) => emit(graph, &mut copy, &mut written, units[index]),
        }
    }
    copy.finish()
}

/// The order, or the first unit that cannot be in one piece.
fn order(graph: &Graph, units: &[&Unit]) -> Result<Vec<Item>, usize> {
    let mut unit_of: Vec<Option<usize>> = vec![None; graph.nodes.len()];
    for (index, unit) in units.iter().enumerate() {
        unit.nodes.iter().for_each(|id| unit_of[id.index()] = Some(index));
    }
    let item = |id: OpId| unit_of[id.index()].map_or(Item::Node(id), Item::Unit);
    // Items by number: nodes first, then units.
    let number = |item: Item| match item {
        Item::Node(id) => id.index(),
        Item::Unit(index) => graph.nodes.len() + index,
    };
    let count = graph.nodes.len() + units.len();
    let mut waits = vec![0usize; count];
    let mut followers: Vec<Vec<Item>> = vec![Vec::new(); count];
    let mut follows = |before: OpId, after: OpId| {
        if item(before) != item(after) {
            waits[number(item(after))] += 1;
            followers[number(item(before))].push(item(after));
        }
    };
    let users = graph.users();
    for (id, node) in graph.nodes_with_ids() {
        node.inputs.iter().filter_map(|&input| graph.value(input).producer).for_each(|(from, _)| follows(from, id));
        if let Some(origin) = node.recompute_of {
            follows(origin, id);
        }
        // Whatever reads a state's old value comes before its update.
        for (operand, _) in node.op.donations() {
            let readers = &users[node.inputs[operand].index()];
            readers.iter().filter(|&&reader| reader != id).for_each(|&reader| follows(reader, id));
        }
    }
    let first = |item: Item| match item {
        Item::Node(id) => id,
        Item::Unit(index) => units[index].nodes[0],
    };
    let items = (0..graph.nodes.len() as u32).map(OpId).filter(|&id| first(item(id)) == id).map(item);
    let mut ready: BinaryHeap<Reverse<(OpId, Item)>> = BinaryHeap::new();
    let mut all = 0;
    for item in items {
        all += 1;
        if waits[number(item)] == 0 {
            ready.push(Reverse((first(item), item)));
        }
    }
    let mut order = Vec::with_capacity(all);
    while let Some(Reverse((_, item))) = ready.pop() {
        order.push(item);
        for &follower in &followers[number(item)] {
            let waits = &mut waits[number(follower)];
            *waits -= 1;
            if *waits == 0 {
                ready.push(Reverse((first(follower), follower)));
            }
        }
    }
    if order.len() == all {
        return Ok(order);
    }
    Err((0..units.len()).find(|&index| waits[graph.nodes.len() + index] > 0).expect("nodes alone have an order"))
}
