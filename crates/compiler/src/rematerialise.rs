//! Rematerialisation: turns a policy into kept values, and duplicates the producers of the others where backward
//! reads them.
//!
//! Method: each forward node belongs to a segment, or to none. Kept is every value made outside a segment, in the last
//! segment (backward starts there, so recomputing it cannot save memory), or read outside the segment that makes it.
//! Anything else that backward reads is computed again on demand, each node at most once, immediately before the first
//! backward node that needs it. What nothing in backward reads is never computed again. Linear in nodes and operands.
//! Chen et al., *Training deep nets with sublinear memory cost*, 2016, for segments; the demand-driven part is ours.

use crate::rebuild::Rebuild;
use remat_ir::{Graph, Node, OpId, Phase, ValueId};
use remat_plan::Policy;

/// The graph with recomputed nodes inserted as `policy` says.
pub fn rematerialise(graph: &Graph, policy: &Policy) -> Graph {
    let segments = segments(graph, policy);
    let kept = kept(graph, &segments);
    let mut pass = Pass { graph, kept, copy: Rebuild::new(graph), again: vec![None; graph.values.len()] };
    for (id, node) in graph.nodes_with_ids() {
        match node.phase {
            Phase::Forward => pass.copy.copy(id),
            Phase::Backward => {
                let inputs = node.inputs.iter().map(|&input| pass.operand(input)).collect();
                pass.copy.copy_with(id, inputs);
            }
        }
    }
    pass.copy.finish()
}

/// For each node, the number of its segment, if the policy recomputes it.
fn segments(graph: &Graph, policy: &Policy) -> Vec<Option<usize>> {
    let regions_per_segment = match policy {
        Policy::None => return vec![None; graph.nodes.len()],
        Policy::Full => 1,
        Policy::Every(regions) => *regions,
    };
    // Outermost regions that hold forward nodes, in execution order.
    let outermost = |node: &Node| graph.region_path(node.region).first().copied();
    let mut order = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.phase == Phase::Forward) {
        if let Some(region) = outermost(node)
            && !order.contains(&region)
        {
            order.push(region);
        }
    }
    let segment_of = |node: &Node| {
        let region = outermost(node).filter(|_| node.phase == Phase::Forward)?;
        Some(order.iter().position(|&other| other == region)? / regions_per_segment)
    };
    graph.nodes.iter().map(segment_of).collect()
}

/// For each value, whether backward may read it where it was first computed.
fn kept(graph: &Graph, segments: &[Option<usize>]) -> Vec<bool> {
    let last = segments.iter().flatten().copied().max();
    let users = graph.users();
    let keep = |id: ValueId| {
        let Some((producer, _)) = graph.value(id).producer else { return true };
        let segment = segments[producer.index()];
        let crosses = |user: &OpId| graph.node(*user).phase == Phase::Forward && segments[user.index()] != segment;
        segment.is_none() || segment == last || graph.outputs.contains(&id) || users[id.index()].iter().any(crosses)
    };
    graph.value_ids().map(keep).collect()
}

struct Pass<'a> {
    graph: &'a Graph,
    kept: Vec<bool>,
    copy: Rebuild<'a>,
    /// Recomputed values, in the copy.
    again: Vec<Option<ValueId>>,
}

impl Pass<'_> {
    /// The value of the copy that a backward or recomputed node reads for `id`.
    fn operand(&mut self, id: ValueId) -> ValueId {
        if self.kept[id.index()] {
            return self.copy.get(id);
        }
        if let Some(value) = self.again[id.index()] {
            return value;
        }
        self.recompute(id);
        self.again[id.index()].expect("recompute() made it")
    }

    /// Emits the producer of `id` again, after whatever it needs; iterative, since chains can be long.
    fn recompute(&mut self, id: ValueId) {
        let mut stack = vec![id];
        while let Some(&value) = stack.last() {
            let (producer, _) = self.graph.value(value).producer.expect("sources are kept");
            let node = self.graph.node(producer);
            let missing = |&&input: &&ValueId| !self.kept[input.index()] && self.again[input.index()].is_none();
            let before = stack.len();
            stack.extend(node.inputs.iter().rev().filter(missing));
            if stack.len() > before {
                continue;
            }
            stack.pop();
            if self.again[value.index()].is_some() {
                continue;
            }
            let inputs = node
                .inputs
                .iter()
                .map(|&input| self.again[input.index()].unwrap_or_else(|| self.copy.get(input)))
                .collect();
            let results = self.copy.recompute(producer, inputs);
            for (&output, result) in node.outputs.iter().zip(results) {
                if !self.kept[output.index()] {
                    self.again[output.index()] = Some(result);
                }
            }
        }
    }
}
