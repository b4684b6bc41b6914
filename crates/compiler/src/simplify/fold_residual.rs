//! Folds `add(a, linear(x, w))` into `linear(x, w, residual = a)`: one pass over the activations less, and the sum can
//! work in a's own slot. In backward it turns the chain of sums over q, k, v and their adapters into one buffer.

use super::edit::Edit;
use remat_ir::ops::Linear;
use remat_ir::{Graph, Node, Op, OpId, Users, ValueId};

/// The graph with every foldable sum folded. The fused node stands where the sum stood, so all operands are ready.
pub(super) fn fold(graph: Graph) -> Graph {
    let users = graph.users();
    let mut folds: Vec<(OpId, OpId, ValueId)> = Vec::new();
    let mut folded = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes_with_ids() {
        let Op::Add(_) = node.op else { continue };
        let found = [(node.inputs[1], node.inputs[0]), (node.inputs[0], node.inputs[1])]
            .into_iter()
            .find_map(|(term, other)| Some((foldable(&graph, &users, node, term, other)?, other)));
        if let Some((linear, residual)) = found
            && !folded[linear.index()]
        {
            folds.push((id, linear, residual));
            folded[linear.index()] = true;
        }
    }
    let mut edit = Edit::of(graph);
    for (id, linear, residual) in folds {
        let term = edit.node(linear);
        let Op::Linear(attributes) = &term.op else { unreachable!("foldable() matched it") };
        let fused = Linear { residual: true, ..attributes.clone() };
        let mut inputs = term.inputs.clone();
        inputs.push(residual);
        let results = edit.node(id).outputs.clone();
        edit.replace(id, fused, inputs, results);
        edit.remove(linear);
    }
    edit.finish()
}

/// The plain linear that makes `term`, if the sum is its only reader and belongs to the same region and phase.
fn foldable(graph: &Graph, users: &Users, sum: &Node, term: ValueId, other: ValueId) -> Option<OpId> {
    let (id, _) = graph.value(term).producer?;
    let node = graph.node(id);
    let Op::Linear(linear) = &node.op else { return None };
    let alone = users[term.index()].len() == 1 && graph.is_internal(term) && term != other;
    let alike = node.phase == sum.phase && node.region == sum.region;
    (alone && alike && !linear.residual).then_some(id)
}
