//! Values, nodes, regions and the graph that holds them.
//!
//! Invariants (proved by `verify`): nodes stand in execution order; a value has one producer or is a source; names
//! of values and of nodes are unique, so that they identify them across passes; a donated output continues a state.

use crate::{NameMap, Op, SourceRole};
use remat_tensor::{DType, Shape};
use std::fmt;
use std::ops::Index;

/// Index of a value in [`Graph::values`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Index of a node in [`Graph::nodes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId(pub u32);

/// Index of a checkpoint region in [`Graph::regions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RegionId(pub u32);

impl ValueId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl OpId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl RegionId {
    /// As a vector index.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// Element type and static shape of a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Type {
    /// Element type.
    pub dtype: DType,
    /// Dimensions, outermost first.
    pub shape: Shape,
}

impl Type {
    /// A type of the given dtype and shape.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Type { dtype, shape: shape.into() }
    }

    /// Bytes of the largest value allowed: 256 TiB, so that sums over a graph's values cannot overflow.
    pub const MAX_BYTES: usize = 1 << 48;

    /// Size in bytes, of a type that passes [`Type::check`].
    pub fn bytes(&self) -> usize {
        self.dtype.bytes_of(&self.shape).expect("a type that passes `check` has a size")
    }

    /// Refuses what no value can be: a shape without axes, an axis of size 0, more than [`Type::MAX_BYTES`].
    ///
    /// # Errors
    /// The fault, to be put behind the name and type of the value.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.shape.is_empty() {
            return Err("has no axes; a scalar has shape [1]");
        }
        if self.shape.contains(&0) {
            return Err("has an axis of size 0");
        }
        match self.dtype.bytes_of(&self.shape) {
            Some(bytes) if bytes <= Type::MAX_BYTES => Ok(()),
            _ => Err("is larger than 256 TiB"),
        }
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// Where a value lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Storage {
    /// Written by the caller before each run: token ids, labels, the learning rate.
    Input,
    /// Read-only for the whole program: frozen parameters, tables.
    Weight,
    /// Persistent and updated in place through donation: trainable parameters, gradients, moments.
    State,
    /// A slot of the plan's arena, alive between its producer and its last use.
    Arena,
}

impl Storage {
    /// The word of the text form.
    pub const fn name(self) -> &'static str {
        match self {
            Storage::Input => "input",
            Storage::Weight => "weight",
            Storage::State => "state",
            Storage::Arena => "arena",
        }
    }
}

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
