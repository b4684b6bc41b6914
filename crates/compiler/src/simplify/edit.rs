//! A graph changed where it stands: nodes taken out, replaced or moved. What stays is moved, not copied.
//!
//! A pass first looks at the whole graph and then says what changes, in nodes and values of the graph as it was. Invariant:
//! the result is numbered as [`crate::rebuild::Rebuild`] numbers: sources first, then results as they are made.

use remat_ir::{Graph, Node, Op, OpDef, OpId, Storage, Value, ValueId};

/// Changes to a graph.
pub(super) struct Edit {
    graph: Graph,
    removed: Vec<bool>,
}

impl Edit {
    pub(super) fn of(graph: Graph) -> Edit {
        let removed = vec![false; graph.nodes.len()];
        Edit { graph, removed }
    }

    /// A node as it is now.
    pub(super) fn node(&self, id: OpId) -> &Node {
        self.graph.node(id)
    }

    /// Takes a node out. Nothing may read what it makes, but for what becomes another node's result.
    pub(super) fn remove(&mut self, id: OpId) {
        self.removed[id.index()] = true;
    }

    /// Lets a node be another op on these operands. `results` are values of the graph, which keep their names.
    pub(super) fn replace(&mut self, id: OpId, op: impl Into<Op>, inputs: Vec<ValueId>, results: Vec<ValueId>) {
        let op = op.into();
        let donations = op.donations();
        for (index, result) in results.iter().enumerate() {
            let value = &mut self.graph.values[result.index()];
            value.donated_from = donations.iter().find(|donation| donation.1 == index).map(|d| inputs[d.0]);
            value.storage = if value.donated_from.is_some() { Storage::State } else { Storage::Arena };
        }
        let node = &mut self.graph.nodes[id.index()];
        (node.op, node.inputs, node.outputs) = (op, inputs, results);
    }

    /// The graph with the changes, its nodes in their order.
    pub(super) fn finish(self) -> Graph {
        let order: Vec<OpId> = (0..self.graph.nodes.len() as u32).map(OpId).collect();
        self.finish_in(order)
    }

    /// The same with nodes in another order. Linear in nodes and values.
    pub(super) fn finish_in(self, order: Vec<OpId>) -> Graph {
        let Edit { graph: Graph { values, nodes, regions, outputs }, removed } = self;
        let mut new_value: Vec<Option<ValueId>> = vec![None; values.len()];
        let mut new_node: Vec<Option<OpId>> = vec![None; nodes.len()];
        let mut left: Vec<Option<Value>> = values.into_iter().map(Some).collect();
        let mut nodes: Vec<Option<Node>> = nodes.into_iter().map(Some).collect();
        let nodes_left = removed.iter().filter(|removed| !**removed).count();
        let mut graph = Graph { regions, nodes: Vec::with_capacity(nodes_left), ..Graph::default() };
        graph.values.reserve_exact(left.len());
        for (new, value) in new_value.iter_mut().zip(&mut left) {
            if let Some(source) = value.take_if(|value| value.producer.is_none()) {
                *new = Some(ValueId(graph.values.len() as u32));
                graph.values.push(source);
            }
        }
        let copied = |new: &[Option<ValueId>], id: ValueId| new[id.index()].expect("producers stand before users");
        for id in order.into_iter().filter(|id| !removed[id.index()]) {
            let mut node = nodes[id.index()].take().expect("an order has each node once");
            let at = OpId(graph.nodes.len() as u32);
            new_node[id.index()] = Some(at);
            node.recompute_of = node.recompute_of.map(|origin| new_node[origin.index()].expect("origins come first"));
            node.inputs.iter_mut().for_each(|input| *input = copied(&new_value, *input));
            for (index, output) in node.outputs.iter_mut().enumerate() {
                let mut value = left[output.index()].take().expect("a value has one producer");
                value.producer = Some((at, index));
                value.donated_from = value.donated_from.map(|from| copied(&new_value, from));
                let new = ValueId(graph.values.len() as u32);
                new_value[output.index()] = Some(new);
                graph.values.push(value);
                *output = new;
            }
            graph.nodes.push(node);
        }
        graph.outputs = outputs.into_iter().map(|output| copied(&new_value, output)).collect();
        graph
    }
}
