//! Folds an adapter's product and the linear that it is added to into one: `linear(u, b, residual = linear(x, w))`, and in
//! backward `linear(x, w, residual = linear(u, b))`, become `linear(x, w, u, b)`. The sum of both is made in registers,
//! and the activations are written once, not twice and read.
//!
//! Invariant: what is folded does not depend on whether frozen weights are quantised, so that both share their rounding points. A
//! frozen weight is therefore never the narrow one, however few terms its product has.

use super::edit::Edit;
use remat_ir::ops::{Linear, LowRank};
use remat_ir::{Graph, Node, Op, OpId, Storage, Users, ValueId};

/// Longest sum that counts as low rank: beyond it the extra pass costs little beside the product.
const MOST: usize = 128;

/// The graph with every foldable pair folded. The fused node stands where the later of the two stood, so all operands
/// are ready.
pub(super) fn fold(graph: Graph) -> Graph {
    let users = graph.users();
    let mut folds: Vec<(OpId, OpId, Linear, Vec<ValueId>)> = Vec::new();
    let mut is_fused = vec![false; graph.nodes.len()];
    for (id, node) in graph.nodes_with_ids() {
        if let Some(first) = first_of_pair(&graph, &users, node).filter(|first| !is_fused[first.index()])
            && let Some((op, inputs)) = fuse(&graph, graph.node(first), node)
        {
            folds.push((id, first, op, inputs));
            is_fused[id.index()] = true;
        }
    }
    let mut edit = Edit::of(graph);
    for (id, first, op, inputs) in folds {
        let results = edit.node(id).outputs.clone();
        edit.replace(id, op, inputs, results);
        edit.remove(first);
    }
    edit.finish()
}

fn linear(node: &Node) -> Option<&Linear> {
    if let Op::Linear(linear) = &node.op { Some(linear).filter(|linear| linear.low_rank.is_none()) } else { None }
}

/// The linear that makes this linear's residual, if nothing else reads it and both belong to the same region and phase.
fn first_of_pair(graph: &Graph, users: &Users, node: &Node) -> Option<OpId> {
    let residual = node.inputs[linear(node)?.residual_operand()?];
    let (id, _) = graph.value(residual).producer?;
    let first = graph.node(id);
    linear(first)?;
    let once = node.inputs.iter().filter(|&&input| input == residual).count() == 1;
    let alone = once && users[residual.index()].len() == 1 && graph.is_internal(residual);
    (alone && first.phase == node.phase && first.region == node.region).then_some(id)
}

/// The fused op of a pair, the second of which adds onto the first, and its operands.
fn fuse(graph: &Graph, first: &Node, second: &Node) -> Option<(Linear, Vec<ValueId>)> {
    let width = |node: &Node| graph.value(node.inputs[0]).ty.shape.last();
    let is_frozen = |node: &Node| graph.value(node.inputs[1]).storage == Storage::Weight;
    let (adapter, base) = match (is_frozen(first), is_frozen(second)) {
        (false, true) => (first, second),
        (true, false) => (second, first),
        (true, true) => return None,
        (false, false) if width(first) < width(second) => (first, second),
        (false, false) if width(first) > width(second) => (second, first),
        (false, false) => return None,
    };
    let (narrow, wide) = (linear(adapter)?, linear(base)?);
    if narrow.bias || width(adapter) > MOST {
        return None;
    }
    // What the first of the two was added onto is what the pair is added onto.
    let residual = linear(first)?.residual_operand().map(|index| first.inputs[index]);
    let low_rank = Some(LowRank { layout: narrow.layout, beta: narrow.alpha });
    let mut inputs = base.inputs[..2 + usize::from(wide.bias)].to_vec();
    inputs.extend(residual);
    inputs.extend(&adapter.inputs[..2]);
    Some((Linear { residual: residual.is_some(), low_rank, ..wide.clone() }, inputs))
}
