//! Copies a graph node by node, so that a pass only says what it changes.
//!
//! Invariant: names, phases and regions of copied nodes stay; values are renumbered.

use remat_ir::{Graph, Node, Op, OpDef, OpId, Storage, Value, ValueId};

/// A graph being copied from another.
pub(crate) struct Rebuild<'a> {
    source: &'a Graph,
    target: Graph,
    values: Vec<Option<ValueId>>,
    nodes: Vec<Option<OpId>>,
}

impl<'a> Rebuild<'a> {
    /// An empty copy that has all of the source's regions and source values.
    pub(crate) fn new(source: &'a Graph) -> Self {
        let target = Graph {
            values: Vec::with_capacity(source.values.len()),
            nodes: Vec::with_capacity(source.nodes.len()),
            regions: source.regions.clone(),
            outputs: Vec::new(),
        };
        let mut rebuild =
            Rebuild { source, target, values: vec![None; source.values.len()], nodes: vec![None; source.nodes.len()] };
        for (index, value) in source.values.iter().enumerate().filter(|(_, value)| value.producer.is_none()) {
            rebuild.values[index] = Some(rebuild.push(value.clone()));
        }
        rebuild
    }

    fn push(&mut self, value: Value) -> ValueId {
        let id = ValueId(self.target.values.len() as u32);
        self.target.values.push(value);
        id
    }

    /// Where a source value is in the copy; it must have been copied.
    pub(crate) fn get(&self, id: ValueId) -> ValueId {
        self.values[id.index()].expect("a pass copies producers before users")
    }

    /// Copies a node as it is.
    pub(crate) fn copy(&mut self, id: OpId) {
        let inputs = self.source.node(id).inputs.iter().map(|&input| self.get(input)).collect();
        self.copy_with(id, inputs);
    }

    /// Copies a node with its operands given as values of the copy.
    pub(crate) fn copy_with(&mut self, id: OpId, inputs: Vec<ValueId>) {
        let node = self.source.node(id);
        let recompute_of = node.recompute_of.map(|origin| self.nodes[origin.index()].expect("origins come first"));
        let new = Node { recompute_of, ..like(node, node.op.clone(), node.name.clone(), inputs) };
        self.stand_for(id, new, &node.outputs);
    }

    /// Duplicates an already copied forward node: the same op on the given operands (values of the *copy*). Returns the
    /// results in the copy, named after the originals with a trailing `~`; `~2` where it is the second time, and so on.
    pub(crate) fn recompute(&mut self, id: OpId, inputs: Vec<ValueId>, time: u32) -> Vec<ValueId> {
        let node = self.source.node(id);
        let origin = self.nodes[id.index()].expect("forward nodes are copied before they are repeated");
        let mark = if time == 1 { "~".to_string() } else { format!("~{time}") };
        let name = format!("{}{mark}", node.name);
        let new = Node { recompute_of: Some(origin), ..like(node, node.op.clone(), name, inputs) };
        let renamed = |&output: &ValueId| {
            let value = self.source.value(output);
            Value { name: format!("{}{mark}", value.name), ty: value.ty.clone(), checkpoint_name: None, ..*value }
        };
        let values = node.outputs.iter().map(renamed).collect();
        self.emit(new, values).1
    }

    /// Emits a node in place of node `id`, its results in place of the source values `results`.
    fn stand_for(&mut self, id: OpId, new: Node, results: &[ValueId]) {
        let values = results.iter().map(|&result| self.source.value(result).clone()).collect();
        let (new_id, new_results) = self.emit(new, values);
        self.nodes[id.index()] = Some(new_id);
        for (&result, new_result) in results.iter().zip(new_results) {
            self.values[result.index()] = Some(new_result);
        }
    }

    /// Where a node is in the copy.
    pub(crate) fn node(&self, id: OpId) -> OpId {
        self.nodes[id.index()].expect("a pass copies nodes before what repeats them")
    }

    /// Lets a value of the copy stand for a source value.
    pub(crate) fn value_stands_for(&mut self, source: ValueId, value: ValueId) {
        self.values[source.index()] = Some(value);
    }

    /// Lets a node of the copy stand for a source node.
    pub(crate) fn node_stands_for(&mut self, source: OpId, node: OpId) {
        self.nodes[source.index()] = Some(node);
    }

    /// Adds a node, its operands given as values of the copy. Of the values, names and types count.
    pub(crate) fn emit(&mut self, mut node: Node, values: Vec<Value>) -> (OpId, Vec<ValueId>) {
        let id = OpId(self.target.nodes.len() as u32);
        let donations = node.op.donations();
        let mut results = Vec::with_capacity(values.len());
        for (index, mut value) in values.into_iter().enumerate() {
            value.producer = Some((id, index));
            value.donated_from = donations.iter().find(|d| d.1 == index).map(|d| node.inputs[d.0]);
            value.storage = if value.donated_from.is_some() { Storage::State } else { Storage::Arena };
            results.push(self.push(value));
        }
        node.outputs.clone_from(&results);
        self.target.nodes.push(node);
        (id, results)
    }

    /// Ends the copy; the outputs are those of the source.
    pub(crate) fn finish(mut self) -> Graph {
        self.target.outputs = self.source.outputs.iter().map(|&id| self.get(id)).collect();
        self.target
    }
}

/// A node of the phase and region of another, without results yet.
fn like(node: &Node, op: Op, name: String, inputs: Vec<ValueId>) -> Node {
    Node { op, name, inputs, outputs: Vec::new(), phase: node.phase, region: node.region, recompute_of: None }
}
