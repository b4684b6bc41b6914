//! What a policy is shown of a value, and what it says of it. Look next at `policy`.

use remat_ir::{Graph, Node, OpDef, OpId, Phase, RegionId, Type, ValueId};
use std::collections::{BTreeSet, HashSet};

/// What is to become of one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Decision {
    /// Kept, or the policy is refused.
    MustSave,
    /// Kept.
    PreferSave,
    /// Computed again in backward, if it is inside a region, not handed on by it, and the region is not the last.
    PreferRecompute,
    /// Computed again in backward wherever it is made, or the policy is refused.
    MustRecompute,
    /// Kept, and out of the arena until backward reads it, in the folder of [`crate::Options::offload`]; or the policy is
    /// refused.
    MustOffload,
    /// The same where there is a folder and the value can leave; else kept.
    PreferOffload,
}

/// A value that a policy decides about: a result of a forward op that backward may want.
#[derive(Debug, Clone, Copy)]
pub struct Candidate<'a> {
    /// The value's own name.
    pub name: &'a str,
    /// The name given by `checkpoint_name`, if one was.
    pub checkpoint_name: Option<&'a str>,
    /// The name of the op that makes it, such as `linear`; of an op of your own, its own.
    pub op: &'a str,
    /// The outermost region it is made in.
    pub layer: Option<&'a str>,
    /// The innermost region it is made in.
    pub region: Option<&'a str>,
    /// Element type and shape.
    pub ty: &'a Type,
    /// Its size.
    pub bytes: usize,
    /// FLOPs of the op that makes it.
    pub flops: f64,
    /// Whether that op is a matrix product or an attention.
    pub is_contraction: bool,
    /// Whether its products have batch axes as JAX speaks of them: an attention, or a product of activations for each place
    /// of leading axes.
    pub has_batch_dims: bool,
}

/// The producer of a value that a policy may decide about.
pub(crate) fn forward_producer(graph: &Graph, id: ValueId) -> Option<(OpId, &Node)> {
    let (producer, _) = graph.value(id).producer?;
    let node = graph.node(producer);
    (node.phase == Phase::Forward).then_some((producer, node))
}

/// What a policy is shown of a value.
pub(crate) fn candidate<'a>(graph: &'a Graph, id: ValueId, node: &'a Node) -> Candidate<'a> {
    let (inputs, outputs) = graph.node_types(node);
    let value = graph.value(id);
    let path = graph.region_path(node.region);
    let region_name = |id: Option<&RegionId>| id.map(|id| graph.regions[id.index()].name.as_str());
    Candidate {
        name: &value.name,
        checkpoint_name: value.checkpoint_name.as_deref(),
        op: node.op.own_name(),
        layer: region_name(path.first()),
        region: region_name(path.last()),
        ty: &value.ty,
        bytes: value.ty.bytes(),
        flops: node.op.cost(&inputs, &outputs).flops,
        is_contraction: node.op.is_contraction(),
        has_batch_dims: node.op.has_batch_axes(&inputs),
    }
}

impl Candidate<'_> {
    pub(crate) fn is_any_of(&self, names: &[String]) -> bool {
        names.iter().any(|name| name == self.name || Some(name.as_str()) == self.checkpoint_name)
    }
}

/// What to say of a name that no value has.
pub(crate) const NO_VALUE: &str = "which no value of this graph has, by its own name or by Graph::checkpoint_name: \
     Step::saved_residuals lists values under policy none; a value that is fused into another stays if it has a \
     checkpoint_name";

/// Names that policies may ask for in a graph.
pub(crate) struct Known<'a> {
    values: HashSet<&'a str>,
    ops: BTreeSet<&'a str>,
}

impl<'a> Known<'a> {
    pub(crate) fn of(graph: &'a Graph) -> Self {
        let mut known = Known { values: HashSet::new(), ops: BTreeSet::new() };
        for id in graph.value_ids() {
            if let Some((_, node)) = forward_producer(graph, id) {
                let value = graph.value(id);
                known.values.extend([Some(&*value.name), value.checkpoint_name.as_deref()].into_iter().flatten());
                known.ops.insert(node.op.own_name());
            }
        }
        known
    }

    /// Whether it is a value's own name, or one that `checkpoint_name` gave.
    pub(crate) fn has_value(&self, name: &str) -> bool {
        self.values.contains(name)
    }

    pub(crate) fn has_op(&self, name: &str) -> bool {
        self.ops.contains(name)
    }

    /// What to say of an op that the graph has not.
    pub(crate) fn no_op(&self) -> String {
        let ops: Vec<&str> = self.ops.iter().copied().collect();
        format!("which makes no value of this graph's forward; that has {}", ops.join(", "))
    }
}
