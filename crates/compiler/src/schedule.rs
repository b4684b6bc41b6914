//! Scheduling: one order of nodes. Construction order is already good (backward consumes what it makes at once); what
//! is left is to sink nodes that read no arena value to just before their first reader, so that what they make does not
//! wait in memory. Linear in nodes and operands.

use crate::rebuild::Rebuild;
use remat_ir::{Graph, OpDef, OpId, Storage};

/// The same graph in the order to run.
pub fn schedule(graph: Graph) -> Graph {
    let sinks: Vec<bool> = graph.nodes.iter().map(|node| sinks(&graph, node)).collect();
    let mut done = vec![false; graph.nodes.len()];
    let mut copy = Rebuild::new(&graph);
    for (id, node) in graph.nodes_with_ids() {
        if sinks[id.index()] {
            continue;
        }
        for &input in &node.inputs {
            if let Some((producer, _)) = graph.value(input).producer
                && sinks[producer.index()]
                && !done[producer.index()]
            {
                done[producer.index()] = true;
                copy.copy(producer);
            }
        }
        copy.copy(id);
    }
    for (index, _) in sinks.iter().enumerate().filter(|&(index, &sink)| sink && !done[index]) {
        copy.copy(OpId(index as u32));
    }
    copy.finish()
}

/// Whether a node may move down freely: it reads inputs and weights only, updates nothing, repeats nothing and is not
/// itself repeated (a repeated node must stand before its repetition).
fn sinks(graph: &Graph, node: &remat_ir::Node) -> bool {
    let fixed = |id: &remat_ir::ValueId| matches!(graph.value(*id).storage, Storage::Input | Storage::Weight);
    let origin =
        || graph.nodes.iter().any(|other| other.recompute_of.is_some_and(|id| graph.node(id).name == node.name));
    node.inputs.iter().all(fixed) && node.op.donations().is_empty() && node.recompute_of.is_none() && !origin()
}
