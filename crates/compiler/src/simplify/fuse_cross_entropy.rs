//! Fuses `linear_cross_entropy` with its gradient: the logits of a chunk of tokens are made once, turned into loss and
//! cotangent while they are hot, and never stored. Legal because the loss's cotangent does not depend on the loss.
//!
//! Saves the second logits product, 2·N·D·V FLOPs. The idea is Liger Kernel's fused linear cross entropy (Hsu et al.,
//! 2024); here it is a rewrite, so a graph without backward keeps the plain op.

use super::edit::Edit;
use remat_ir::ops::LinearCrossEntropyWithGrad;
use remat_ir::{Graph, Op, OpId, ValueId};
use std::collections::HashMap;

/// The graph with every matching pair fused, at the place of the gradient node's first safe position: the forward node's.
pub(super) fn fuse(graph: Graph) -> Graph {
    let pairs = pairs(&graph);
    if pairs.is_empty() {
        return graph;
    }
    let hoisted = hoisted(&graph, &pairs);
    let mut order: Vec<OpId> = Vec::with_capacity(graph.nodes.len());
    let mut is_placed = vec![false; graph.nodes.len()];
    for (id, _) in graph.nodes_with_ids() {
        let before = hoisted.get(&id).into_iter().flatten().copied();
        order.extend(before.chain([id]).filter(|id| !std::mem::replace(&mut is_placed[id.index()], true)));
    }
    let mut edit = Edit::of(graph);
    for (forward, gradient) in pairs {
        let node = edit.node(gradient);
        let Op::LinearCrossEntropyGrad(attributes) = &node.op else { unreachable!("pairs() matched it") };
        let fused = LinearCrossEntropyWithGrad(attributes.clone());
        let (inputs, mut results) = (node.inputs.clone(), edit.node(forward).outputs.clone());
        results.extend(&edit.node(gradient).outputs);
        edit.replace(forward, fused, inputs, results);
        edit.remove(gradient);
    }
    edit.finish_in(order)
}

/// Forward node → gradient node on the same h, w and targets, where the gradient's other operands can be computed early.
fn pairs(graph: &Graph) -> HashMap<OpId, OpId> {
    let mut pairs = HashMap::new();
    for (gradient_id, gradient) in graph.nodes_with_ids() {
        let Op::LinearCrossEntropyGrad(attributes) = &gradient.op else { continue };
        let forward = graph.nodes_with_ids().find(|(id, node)| {
            matches!(&node.op, Op::LinearCrossEntropy(forward) if *forward == attributes.forward())
                && node.inputs[..] == gradient.inputs[..attributes.dloss_operand()]
                && !pairs.contains_key(id)
        });
        if let Some((forward_id, _)) = forward
            && early_chain(graph, gradient.inputs[attributes.dloss_operand()], forward_id).is_some()
        {
            pairs.insert(forward_id, gradient_id);
        }
    }
    pairs
}

/// The nodes behind `forward` that compute `value`, in order; `None` if one of them depends on the loss or a state.
fn early_chain(graph: &Graph, value: ValueId, forward: OpId) -> Option<Vec<OpId>> {
    let mut chain = Vec::new();
    let mut pending = vec![value];
    while let Some(value) = pending.pop() {
        match graph.value(value).producer {
            Some((id, _)) if id == forward => return None,
            Some((id, _)) if id > forward && !chain.contains(&id) => {
                chain.push(id);
                pending.extend(&graph.node(id).inputs);
            }
            _ => {}
        }
    }
    chain.sort();
    Some(chain)
}

fn hoisted(graph: &Graph, pairs: &HashMap<OpId, OpId>) -> HashMap<OpId, Vec<OpId>> {
    let chain = |forward: OpId, gradient: OpId| {
        let Op::LinearCrossEntropyGrad(attributes) = &graph.node(gradient).op else {
            unreachable!("pairs() matched it")
        };
        let dloss = graph.node(gradient).inputs[attributes.dloss_operand()];
        early_chain(graph, dloss, forward).expect("pairs() found this chain")
    };
    pairs.iter().map(|(&forward, &gradient)| (forward, chain(forward, gradient))).collect()
}
