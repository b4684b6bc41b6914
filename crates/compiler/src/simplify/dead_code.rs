//! Removes nodes whose results nobody reads: not an output, not a state update, not an operand of a live node.

use crate::rebuild::Rebuild;
use remat_ir::{Graph, Storage};

/// The graph without dead nodes.
pub(super) fn remove(graph: &Graph) -> Graph {
    let mut live = vec![false; graph.values.len()];
    for output in &graph.outputs {
        live[output.index()] = true;
    }
    let mut keep = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes_with_ids().collect::<Vec<_>>().into_iter().rev() {
        let updates = node.outputs.iter().any(|&output| graph.value(output).storage == Storage::State);
        if updates || node.outputs.iter().any(|output| live[output.index()]) {
            keep[id.index()] = true;
            for input in &node.inputs {
                live[input.index()] = true;
            }
        }
    }
    let mut copy = Rebuild::new(graph);
    for (id, _) in graph.nodes_with_ids().filter(|(id, _)| keep[id.index()]) {
        copy.copy(id);
    }
    copy.finish()
}
