//! Removes nodes whose results nobody reads: not an output, not a state update, not an operand of a live node.

use super::edit::Edit;
use remat_ir::{Graph, OpId, Storage};

/// The graph without dead nodes.
pub(super) fn remove(graph: Graph) -> Graph {
    let mut live = vec![false; graph.values.len()];
    for output in &graph.outputs {
        live[output.index()] = true;
    }
    let mut dead: Vec<OpId> = Vec::new();
    for (index, node) in graph.nodes.iter().enumerate().rev() {
        let updates = node.outputs.iter().any(|&output| graph.value(output).storage == Storage::State);
        if updates || node.outputs.iter().any(|output| live[output.index()]) {
            for input in &node.inputs {
                live[input.index()] = true;
            }
        } else {
            dead.push(OpId(index as u32));
        }
    }
    let mut edit = Edit::of(graph);
    dead.into_iter().for_each(|id| edit.remove(id));
    edit.finish()
}
