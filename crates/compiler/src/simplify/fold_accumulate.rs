//! Folds `accumulate(state, dW)` into the op that makes dW, which then adds onto the gradient state in place: no
//! temporary as large as a weight, one pass over it less.

use super::edit::Edit;
use remat_ir::{Graph, Op, OpDef, OpId, Users, ValueId};

/// The graph with every foldable accumulation folded.
pub(super) fn fold(graph: Graph) -> Graph {
    let users = graph.users();
    // Producer → the accumulations of its gradient results, for producers whose results all are accumulated at once.
    let mut folds: Vec<(OpId, Vec<OpId>)> = Vec::new();
    for (id, node) in graph.nodes_with_ids() {
        let Some((_, first)) = node.op.accumulating() else { continue };
        let accumulations: Option<Vec<OpId>> =
            node.outputs[first..].iter().map(|&output| accumulation(&graph, &users, output)).collect();
        if let Some(accumulations) = accumulations.filter(|list| early_enough(&graph, list, id, first)) {
            folds.push((id, accumulations));
        }
    }
    let mut edit = Edit::of(graph);
    folds.into_iter().for_each(|(id, accumulations)| replace(&mut edit, id, &accumulations));
    edit.finish()
}

fn replace(edit: &mut Edit, id: OpId, accumulations: &[OpId]) {
    let node = edit.node(id);
    let (op, first) = node.op.accumulating().expect("only such nodes are folded");
    let mut inputs = node.inputs.clone();
    let mut results: Vec<ValueId> = node.outputs[..first].to_vec();
    for &accumulation in accumulations {
        inputs.push(edit.node(accumulation).inputs[0]);
        results.push(edit.node(accumulation).outputs[0]);
        edit.remove(accumulation);
    }
    edit.replace(id, op, inputs, results);
}

/// The one accumulation that reads `value`, if nothing else does.
fn accumulation(graph: &Graph, users: &Users, value: ValueId) -> Option<OpId> {
    let [user] = users[value.index()][..] else { return None };
    let node = graph.node(user);
    let folds = matches!(node.op, Op::Accumulate(_)) && node.inputs[1] == value && node.inputs[0] != value;
    (folds && graph.is_internal(value)).then_some(user)
}

/// Whether each state to be added onto already has its present value when the producer runs, and nothing between the
/// producer and the accumulation reads it.
fn early_enough(graph: &Graph, accumulations: &[OpId], producer: OpId, _first: usize) -> bool {
    accumulations.iter().all(|&id| {
        let state = graph.node(id).inputs[0];
        let ready = graph.value(state).producer.is_none_or(|(maker, _)| maker < producer);
        let between = &graph.nodes[producer.index() + 1..id.index()];
        ready && !between.iter().any(|node| node.inputs.contains(&state))
    })
}
