//! Folds `accumulate(state, dW)` into the op that makes dW, which then adds onto the gradient state in place: no
//! temporary as large as a weight, one pass over it less.

use super::edit::Edit;
use remat_ir::ops::RmsNormDw;
use remat_ir::ops::{
    BiasGrad, EmbeddingGrad, LayerNormDw, LinearCrossEntropyGrad, LinearCrossEntropyWithGrad, LinearDw,
};
use remat_ir::{Graph, Op, OpId, Users, ValueId};

/// The graph with every foldable accumulation folded.
pub(super) fn fold(graph: Graph) -> Graph {
    let users = graph.users();
    // Producer → the accumulations of its gradient results, for producers whose results all are accumulated at once.
    let mut folds: Vec<(OpId, Vec<OpId>)> = Vec::new();
    for (id, node) in graph.nodes_with_ids() {
        let Some((_, first)) = accumulating(&node.op) else { continue };
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
    let (op, first) = accumulating(&node.op).expect("only such nodes are folded");
    let mut inputs = node.inputs.clone();
    let mut results: Vec<ValueId> = node.outputs[..first].to_vec();
    for &accumulation in accumulations {
        inputs.push(edit.node(accumulation).inputs[0]);
        results.push(edit.node(accumulation).outputs[0]);
        edit.remove(accumulation);
    }
    edit.replace(id, op, inputs, results);
}

/// The accumulating form of an op that makes gradients of parameters, and the index of its first such result.
fn accumulating(op: &Op) -> Option<(Op, usize)> {
    match op {
        Op::LinearDw(op) if !op.accumulate => Some((LinearDw { accumulate: true, ..op.clone() }.into(), 0)),
        Op::BiasGrad(op) if !op.accumulate => Some((BiasGrad { accumulate: true }.into(), 0)),
        Op::EmbeddingGrad(op) if !op.accumulate => Some((EmbeddingGrad { accumulate: true, ..op.clone() }.into(), 0)),
        Op::RmsNormDw(op) if !op.accumulate => Some((RmsNormDw { accumulate: true }.into(), 0)),
        Op::LayerNormDw(op) if !op.accumulate => Some((LayerNormDw { accumulate: true }.into(), 0)),
        Op::LinearCrossEntropyGrad(op) if op.dw && !op.accumulate => {
            Some((LinearCrossEntropyGrad { accumulate: true, ..op.clone() }.into(), usize::from(op.dh)))
        }
        Op::LinearCrossEntropyWithGrad(op) if op.dw && !op.accumulate => {
            Some((LinearCrossEntropyWithGrad { accumulate: true, ..op.clone() }.into(), 1 + usize::from(op.dh)))
        }
        _ => None,
    }
}

/// The one accumulation that reads `value`, if nothing else does.
fn accumulation(graph: &Graph, users: &Users, value: ValueId) -> Option<OpId> {
    let [user] = users[value.index()][..] else { return None };
    let node = graph.node(user);
    let folds = matches!(node.op, Op::Accumulate(_)) && node.inputs[1] == value && node.inputs[0] != value;
    (folds && !graph.outputs.contains(&value)).then_some(user)
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
