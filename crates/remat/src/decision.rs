//! What a policy is shown of a value, and what it says of it. Look next at `policy`.

use remat_ir::{Graph, Node, OpDef, OpId, Phase, RegionId, Type, ValueId};
use std::collections::HashMap;

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
    /// The name of the op that makes it, such as `linear`.
    pub op: &'static str,
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
}

/// The producer of a value that a policy may decide about.
pub(crate) fn forward_producer(graph: &Graph, id: ValueId) -> Option<(OpId, &Node)> {
    let (producer, _) = graph.value(id).producer?;
    let node = graph.node(producer);
    (node.phase == Phase::Forward).then_some((producer, node))
}

/// What a policy is shown of a value.
pub(crate) fn candidate<'a>(
    graph: &'a Graph,
    names: &'a HashMap<String, String>,
    id: ValueId,
    node: &Node,
) -> Candidate<'a> {
    let (inputs, outputs) = graph.node_types(node);
    let value = graph.value(id);
    let path = graph.region_path(node.region);
    let region_name = |id: Option<&RegionId>| id.map(|id| graph.regions[id.index()].name.as_str());
    Candidate {
        name: &value.name,
        checkpoint_name: names.get(&value.name).map(String::as_str),
        op: node.op.name(),
        layer: region_name(path.first()),
        region: region_name(path.last()),
        ty: &value.ty,
        bytes: value.ty.bytes(),
        flops: node.op.cost(&inputs, &outputs).flops,
        is_contraction: node.op.is_contraction(),
    }
}

impl Candidate<'_> {
    pub(crate) fn is_any_of(&self, names: &[String]) -> bool {
        names.iter().any(|name| name == self.name || Some(name.as_str()) == self.checkpoint_name)
    }
}
