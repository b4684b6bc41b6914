//! Values, nodes, regions and the graph that holds them.
//!
//! Invariants (proved by `verify`): nodes stand in execution order; a value has one producer or is a source; names
//! of values and of nodes are unique, so that they identify them across passes; a donated output continues a state.

use crate::{NameMap, Op, OpClass, OpDef, OpId, RegionId, SourceRole, Storage, Type, ValueId};
use std::ops::Index;

/// One value of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// Unique and stable: it identifies the value across passes and in all output.
    pub name: String,
    /// Element type and shape.
    pub ty: Type,
    /// Where it lives.
    pub storage: Storage,
    /// What it is for, if it is a source.
    pub role: Option<SourceRole>,
    /// The producing node and which of its outputs this is; `None` for sources.
    pub producer: Option<(OpId, usize)>,
    /// The state value whose bytes this one replaces in place.
    pub donated_from: Option<ValueId>,
    /// A name that a user gave it beside its own, for policies; rewrites leave a value that has one as it is.
    pub checkpoint_name: Option<Box<str>>,
}

impl Value {
    /// Name of the parameter that a source is, or that it is kept for.
    pub fn parameter(&self) -> Option<&str> {
        match self.role? {
            SourceRole::Parameter(_, role) => Some(role.parameter(&self.name)),
            _ => None,
        }
    }
}

/// Whether a node computes the model or its gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Phase {
    /// The model's own computation up to the loss, or the update graph.
    Forward,
    /// Made by differentiation.
    Backward,
}

/// One op applied to values.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// What is computed, with its attributes.
    pub op: Op,
    /// Unique and stable; random ops draw their stream from it.
    pub name: String,
    /// Operands, in the op's order.
    pub inputs: Vec<ValueId>,
    /// Results, in the op's order.
    pub outputs: Vec<ValueId>,
    /// Forward or backward.
    pub phase: Phase,
    /// The innermost checkpoint region this node belongs to (for a backward node: its forward node's).
    pub region: Option<RegionId>,
    /// For a node duplicated by rematerialisation: the node it repeats.
    pub recompute_of: Option<OpId>,
}

/// A checkpoint region: a block of a model, or what a user wrapped in `checkpoint(...)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// For instance `layers.3`.
    pub name: String,
    /// The region around it.
    pub parent: Option<RegionId>,
}

/// A computation: sources, nodes in execution order, and the values wanted at the end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Graph {
    /// All values.
    pub values: Vec<Value>,
    /// All nodes, in execution order.
    pub nodes: Vec<Node>,
    /// All checkpoint regions; a parent stands before its children.
    pub regions: Vec<Region>,
    /// Values that can be read after a run. Final donated states need not be listed.
    pub outputs: Vec<ValueId>,
}

impl Graph {
    /// The value with this id.
    pub fn value(&self, id: ValueId) -> &Value {
        &self.values[id.index()]
    }

    /// The node with this id.
    pub fn node(&self, id: OpId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The type of a value.
    pub fn ty(&self, id: ValueId) -> &Type {
        &self.value(id).ty
    }

    /// All value ids.
    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len() as u32).map(ValueId)
    }

    /// All nodes with their ids, in execution order.
    pub fn nodes_with_ids(&self) -> impl Iterator<Item = (OpId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, node)| (OpId(i as u32), node))
    }

    /// The value of this name, by linear search.
    pub fn find(&self, name: &str) -> Option<ValueId> {
        self.values.iter().position(|value| value.name == name).map(|i| ValueId(i as u32))
    }

    /// A table from value name to id, for many look-ups.
    pub fn names(&self) -> NameMap<&str, ValueId> {
        self.values.iter().enumerate().map(|(i, value)| (value.name.as_str(), ValueId(i as u32))).collect()
    }

    /// Whether a value may be rewritten into another: nobody asks for it by itself.
    pub fn is_internal(&self, id: ValueId) -> bool {
        self.value(id).checkpoint_name.is_none() && !self.outputs.contains(&id)
    }

    /// For each value, the nodes that read it, in execution order, once per node.
    pub fn users(&self) -> Users {
        Users::of(self)
    }

    /// The state whose storage a value occupies: follows donation to its start. Any other value is its own root.
    pub fn storage_root(&self, mut id: ValueId) -> ValueId {
        while let Some(from) = self.value(id).donated_from {
            id = from;
        }
        id
    }

    /// The operand and result types of a node.
    pub fn node_types(&self, node: &Node) -> (Vec<&Type>, Vec<&Type>) {
        let of = |ids: &[ValueId]| ids.iter().map(|&id| self.ty(id)).collect();
        (of(&node.inputs), of(&node.outputs))
    }

    /// The outermost region around the given one, or itself.
    pub fn outermost_region(&self, region: Option<RegionId>) -> Option<RegionId> {
        std::iter::successors(region, |&id| self.regions[id.index()].parent).last()
    }

    /// The regions from the outermost to the given one.
    pub fn region_path(&self, region: Option<RegionId>) -> Vec<RegionId> {
        let mut path: Vec<RegionId> = std::iter::successors(region, |&id| self.regions[id.index()].parent).collect();
        path.reverse();
        path
    }
}

/// The nodes that read each value, in execution order, once per node: by value, `users[value.index()]`.
#[derive(Debug, Clone)]
pub struct Users {
    nodes: Vec<OpId>,
    /// Where each value's begin, and the end.
    from: Vec<u32>,
}

impl Users {
    fn of(graph: &Graph) -> Users {
        // Readers are counted, then written where the counts say.
        let mut seen = vec![u32::MAX; graph.values.len()];
        let mut from = vec![0; graph.values.len() + 1];
        for (id, node) in graph.nodes_with_ids() {
            for input in &node.inputs {
                if std::mem::replace(&mut seen[input.index()], id.0) != id.0 {
                    from[input.index() + 1] += 1;
                }
            }
        }
        for value in 1..from.len() {
            from[value] += from[value - 1];
        }
        let mut next = from.clone();
        let mut nodes = vec![OpId(0); from[graph.values.len()] as usize];
        seen.fill(u32::MAX);
        for (id, node) in graph.nodes_with_ids() {
            for input in &node.inputs {
                if std::mem::replace(&mut seen[input.index()], id.0) != id.0 {
                    nodes[next[input.index()] as usize] = id;
                    next[input.index()] += 1;
                }
            }
        }
        Users { nodes, from }
    }

    /// How many nodes read each value.
    pub fn counts(&self) -> impl Iterator<Item = usize> {
        self.from.windows(2).map(|pair| (pair[1] - pair[0]) as usize)
    }
}

impl Index<usize> for Users {
    type Output = [OpId];

    fn index(&self, value: usize) -> &[OpId] {
        &self.nodes[self.from[value] as usize..self.from[value + 1] as usize]
    }
}

impl OpClass {
    /// The class of a node of `graph`.
    pub fn of(graph: &Graph, node: &Node) -> OpClass {
        let (inputs, outputs) = graph.node_types(node);
        node.op.class(&inputs, &outputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ParameterKind, StateRole};
    use remat_tensor::DType;

    #[test]
    fn states_lead_back_to_their_parameter_by_role_and_never_by_name() {
        let value = |name: &str, role| Value {
            name: name.to_string(),
            ty: Type::new(DType::F32, [1]),
            storage: Storage::State,
            role: Some(role),
            producer: None,
            donated_from: None,
            checkpoint_name: None,
        };
        for role in StateRole::ALL {
            let of_w = value(&role.name("w"), SourceRole::Parameter(ParameterKind::AdapterA, role));
            assert_eq!(of_w.parameter(), Some("w"), "{}", of_w.name);
            // A parameter of a name that another one's state could have is itself.
            let named_so = value(&role.name("w"), SourceRole::BASE);
            assert_eq!(named_so.parameter(), Some(named_so.name.as_str()));
        }
        assert_eq!(value("k", SourceRole::KvCache).parameter(), None);
    }
}
