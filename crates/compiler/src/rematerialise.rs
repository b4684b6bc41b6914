//! Rematerialisation: duplicates the producers of values that are not kept where backward reads them.
//!
//! Method: anything that backward reads and that is not kept is computed again on demand, each node at most once,
//! immediately before the first backward node that needs it. What nothing in backward reads is never computed again.
//! Linear in nodes and operands. Look next at [`Kept`] for who decides and at `solve` for how.

use crate::Kept;
use crate::rebuild::Rebuild;
use remat_ir::{Graph, Phase, ValueId};

/// The graph with whatever is not kept recomputed for backward.
pub fn rematerialise(graph: &Graph, kept: &Kept) -> Graph {
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

struct Pass<'a> {
    graph: &'a Graph,
    kept: &'a Kept,
    copy: Rebuild<'a>,
    /// Recomputed values, in the copy.
    again: Vec<Option<ValueId>>,
}

impl Pass<'_> {
    /// The value of the copy that a backward or recomputed node reads for `id`.
    fn operand(&mut self, id: ValueId) -> ValueId {
        if self.kept.contains(id) {
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
            let missing = |&&input: &&ValueId| !self.kept.contains(input) && self.again[input.index()].is_none();
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
                if !self.kept.contains(output) {
                    self.again[output.index()] = Some(result);
                }
            }
        }
    }
}
