//! Scheduling: one order of nodes. Construction order is already good (backward consumes what it makes at once); what
//! is left is to sink nodes that read no arena value to just before their first reader, so that what they make does not
//! wait in memory. Linear in nodes and operands.

use crate::rebuild::Rebuild;
use remat_ir::{Graph, OpDef, OpId, Storage};

/// The same graph in the order to run.
pub fn schedule(graph: Graph) -> Graph {
    let order = order(&graph);
    if order.is_sorted() && is_numbered_in_order(&graph) {
        return graph;
    }
    let mut copy = Rebuild::new(&graph);
    order.into_iter().for_each(|id| copy.copy(id));
    copy.finish()
}

/// All nodes, those that sink before their first reader or, without one, at the end.
fn order(graph: &Graph) -> Vec<OpId> {
    let sinks: Vec<bool> = graph.nodes.iter().map(|node| sinks(graph, node)).collect();
    let mut done = vec![false; graph.nodes.len()];
    let mut order = Vec::with_capacity(graph.nodes.len());
    for (id, node) in graph.nodes_with_ids().filter(|(id, _)| !sinks[id.index()]) {
        for &input in &node.inputs {
            if let Some((producer, _)) = graph.value(input).producer
                && sinks[producer.index()]
                && !done[producer.index()]
            {
                done[producer.index()] = true;
                order.push(producer);
            }
        }
        order.push(id);
    }
    let unread = (0..sinks.len()).filter(|&index| sinks[index] && !done[index]);
    order.extend(unread.map(|index| OpId(index as u32)));
    order
}

/// Whether values are numbered as a copy would number them: sources first, then results as they are made.
fn is_numbered_in_order(graph: &Graph) -> bool {
    let made = graph.nodes.iter().flat_map(|node| &node.outputs).map(|output| output.index());
    let sources = graph.values.iter().take_while(|value| value.producer.is_none()).count();
    made.eq(sources..graph.values.len())
}

/// Whether a node may move down freely: it reads inputs and weights only, updates nothing, repeats nothing and is not
/// itself repeated (a repeated node must stand before its repetition).
fn sinks(graph: &Graph, node: &remat_ir::Node) -> bool {
    let fixed = |id: &remat_ir::ValueId| matches!(graph.value(*id).storage, Storage::Input | Storage::Weight);
    let origin =
        || graph.nodes.iter().any(|other| other.recompute_of.is_some_and(|id| graph.node(id).name == node.name));
    node.inputs.iter().all(fixed) && node.op.donations().is_empty() && node.recompute_of.is_none() && !origin()
}
