//! Fuses `linear_cross_entropy` with its gradient: the logits of a chunk of tokens are made once, turned into loss and
//! cotangent while they are hot, and never stored. Legal because the loss's cotangent does not depend on the loss.
//!
//! Saves the second logits product, 2·N·D·V FLOPs. The idea is Liger Kernel's fused linear cross entropy (Hsu et al.,
//! 2024); here it is a rewrite, so a graph without backward keeps the plain op.

use crate::rebuild::Rebuild;
use remat_ir::ops::LinearCrossEntropyWithGrad;
use remat_ir::{Graph, Op, OpId, ValueId};
use std::collections::HashMap;

/// The graph with every matching pair fused, at the place of the gradient node's first safe position: the forward node's.
pub(super) fn fuse(graph: &Graph) -> Graph {
    let pairs = pairs(graph);
    if pairs.is_empty() {
        return graph.clone();
    }
    let absorbed: HashMap<OpId, OpId> = pairs.iter().map(|(&forward, &gradient)| (gradient, forward)).collect();
    let hoisted = hoisted(graph, &pairs);
    let mut copy = Rebuild::new(graph);
    for (id, _) in graph.nodes_with_ids() {
        if absorbed.contains_key(&id) || hoisted.values().flatten().any(|&early| early == id) {
            continue;
        }
        let Some(&gradient) = pairs.get(&id) else {
            copy.copy(id);
            continue;
        };
        for &early in &hoisted[&id] {
            copy.copy(early);
        }
        let Op::LinearCrossEntropyGrad(attributes) = &graph.node(gradient).op else {
            unreachable!("pairs() matched it")
        };
        let fused =
            LinearCrossEntropyWithGrad { dh: attributes.dh, dw: attributes.dw, accumulate: attributes.accumulate };
        let inputs = graph.node(gradient).inputs.clone();
        let mut results: Vec<ValueId> = graph.node(id).outputs.clone();
        results.extend(&graph.node(gradient).outputs);
        copy.substitute(id, fused, &inputs, &results);
    }
    copy.finish()
}

/// Forward node → gradient node on the same h, w and targets, where the gradient's other operands can be computed early.
fn pairs(graph: &Graph) -> HashMap<OpId, OpId> {
    let mut pairs = HashMap::new();
    for (gradient_id, gradient) in graph.nodes_with_ids() {
        if !matches!(gradient.op, Op::LinearCrossEntropyGrad(_)) {
            continue;
        }
        let forward = graph.nodes_with_ids().find(|(id, node)| {
            matches!(node.op, Op::LinearCrossEntropy(_))
                && node.inputs[..] == gradient.inputs[..3]
                && !pairs.contains_key(id)
        });
        if let Some((forward_id, _)) = forward
            && early_chain(graph, gradient.inputs[3], forward_id).is_some()
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
        early_chain(graph, graph.node(gradient).inputs[3], forward).expect("pairs() found this chain")
    };
    pairs.iter().map(|(&forward, &gradient)| (forward, chain(forward, gradient))).collect()
}
