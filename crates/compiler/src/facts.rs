//! What schedules and placements ask of a graph again and again, looked up once.
//!
//! Invariant: facts are of the nodes, their types and the device's rules alone, so they hold for every sequence of the graph's nodes.

use remat_ir::{Graph, OpDef, OpId, Storage, ValueId};
use remat_plan::{KernelRules, streamed};

/// Facts of a graph's nodes and values.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    nodes: Vec<NodeFacts>,
    /// (operand, result) pairs of all nodes.
    in_place: Vec<(u32, u32)>,
    /// Per value, its bytes in the arena; 0 if it lives elsewhere.
    arena_bytes: Vec<usize>,
    is_output: Vec<bool>,
    any_sinks: bool,
}

#[derive(Debug, Clone, Copy)]
struct NodeFacts {
    workspace_bytes: usize,
    in_place_from: u32,
    in_place_to: u32,
    sinks: bool,
}

impl Facts {
    pub(crate) fn of(graph: &Graph, rules: &KernelRules) -> Facts {
        let in_arena = |value: &remat_ir::Value| if value.storage == Storage::Arena { value.ty.bytes() } else { 0 };
        let mut is_output = vec![false; graph.values.len()];
        graph.outputs.iter().for_each(|output| is_output[output.index()] = true);
        let mut is_repeated = vec![false; graph.nodes.len()];
        graph.nodes.iter().filter_map(|node| node.recompute_of).for_each(|of| is_repeated[of.index()] = true);
        let mut facts = Facts {
            nodes: Vec::with_capacity(graph.nodes.len()),
            in_place: Vec::new(),
            arena_bytes: graph.values.iter().map(in_arena).collect(),
            is_output,
            any_sinks: false,
        };
        for (id, node) in graph.nodes_with_ids() {
            let in_place_from = facts.in_place.len() as u32;
            facts.in_place.extend(node.op.in_place().into_iter().map(|(a, b)| (a as u32, b as u32)));
            let (inputs, _) = graph.node_types(node);
            let fixed = |id: &ValueId| matches!(graph.value(*id).storage, Storage::Input | Storage::Weight);
            let free = node.recompute_of.is_none() && !is_repeated[id.index()];
            facts.nodes.push(NodeFacts {
                workspace_bytes: rules.workspace_bytes(&node.op, &inputs),
                in_place_from,
                in_place_to: facts.in_place.len() as u32,
                sinks: free && node.inputs.iter().all(fixed) && node.op.donations().is_empty(),
            });
        }
        facts.any_sinks = facts.nodes.iter().any(|node| node.sinks);
        facts
    }

    /// The same where some states are off memory, and pass through the workspaces of what streams them.
    pub(crate) fn with_streams(mut self, graph: &Graph, is_off: &dyn Fn(ValueId) -> bool) -> Facts {
        for (facts, node) in self.nodes.iter_mut().zip(&graph.nodes) {
            facts.workspace_bytes += streamed(graph, node, is_off).1;
        }
        self
    }

    /// What a node's kernel needs beside operands and results.
    pub(crate) fn workspace_bytes(&self, node: OpId) -> usize {
        self.nodes[node.index()].workspace_bytes
    }

    /// Which operand's slot which result may take over.
    pub(crate) fn in_place(&self, node: OpId) -> &[(u32, u32)] {
        let facts = &self.nodes[node.index()];
        &self.in_place[facts.in_place_from as usize..facts.in_place_to as usize]
    }

    /// Whether a node may move down freely: it reads inputs and weights only, updates nothing, repeats nothing and is not
    /// itself repeated in the graph.
    pub(crate) fn sinks(&self, node: OpId) -> bool {
        self.nodes[node.index()].sinks
    }

    /// Whether any node does.
    pub(crate) fn any_sinks(&self) -> bool {
        self.any_sinks
    }

    /// Bytes of a value in the arena; 0 if it lives elsewhere.
    pub(crate) fn arena_bytes(&self, value: ValueId) -> usize {
        self.arena_bytes[value.index()]
    }

    /// Whether a value can be read after the run.
    pub(crate) fn is_output(&self, value: ValueId) -> bool {
        self.is_output[value.index()]
    }
}
