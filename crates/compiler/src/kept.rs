//! Which values live from forward to backward, and at which levels the others are made again.
//!
//! Kept is a set of values that backward may read where they were first computed; anything else that backward reads is
//! computed again, once per level of the scopes that it lies in. Invariant: sources, backward values, outputs and the
//! results of updates are always kept.

use crate::scopes::{RegionScopes, Scopes};
use remat_ir::{Graph, Node, OpDef, OpId, Phase, Storage, ValueId};
use remat_plan::Policy;

/// The values that backward may read where they were first computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    values: Vec<bool>,
    scopes: Scopes,
}

impl Kept {
    /// Everything.
    pub fn everything(graph: &Graph) -> Kept {
        Kept { values: vec![true; graph.values.len()], scopes: Scopes::flat() }
    }

    /// What a function says, which is asked about every value; sources, backward values, outputs and what cannot be made
    /// again are kept whatever it says. Regions, nested or not, are the levels at which the rest is made again.
    pub fn from_fn(graph: &Graph, keep: impl Fn(ValueId) -> bool) -> Kept {
        Kept::at_levels(graph, RegionScopes::of(graph, 1).scopes, keep)
    }

    /// The same with other levels.
    pub(crate) fn at_levels(graph: &Graph, scopes: Scopes, keep: impl Fn(ValueId) -> bool) -> Kept {
        let kept = |id: ValueId| match graph.value(id).producer {
            Some((producer, _)) => !Kept::can_recompute(graph, id, producer) || keep(id),
            None => true,
        };
        Kept { values: graph.value_ids().map(kept).collect(), scopes }
    }

    /// Whether a value of this producer can be made again for backward.
    pub fn can_recompute(graph: &Graph, id: ValueId, producer: OpId) -> bool {
        may_run_again(graph, graph.node(producer)) && !graph.outputs.contains(&id)
    }

    /// Segments of this many consecutive regions, at every level of their nesting: kept is every value made outside a
    /// segment, or read in the forward outside the segment that makes it. The last segment (backward starts there, so
    /// recomputing it cannot save memory) keeps everything but what the segments inside it make for themselves, again but
    /// for the last. Chen et al., *Training deep nets with sublinear memory cost*, 2016, with its recursion.
    pub fn segments(graph: &Graph, regions_per_segment: usize) -> Kept {
        let RegionScopes { scopes, is_last } = RegionScopes::of(graph, regions_per_segment);
        let homes: Vec<bool> = graph.value_ids().map(|id| is_last[scopes.home(id) as usize]).collect();
        Kept::at_levels(graph, scopes, |id| homes[id.index()])
    }

    /// What a policy that needs no search keeps; `None` for one that does.
    pub fn of(graph: &Graph, policy: &Policy) -> Option<Kept> {
        match policy {
            Policy::None => Some(Kept::everything(graph)),
            Policy::Full => Some(Kept::segments(graph, 1)),
            Policy::Every(regions) => Some(Kept::segments(graph, *regions)),
            Policy::Budget(_) | Policy::Auto => None,
        }
    }

    /// Everything but the results of the given nodes, each of which runs again once. Nodes that may not run twice are
    /// ignored.
    pub fn without_results_of(graph: &Graph, rerun: &[OpId]) -> Kept {
        let mut kept = Kept::everything(graph);
        for &id in rerun.iter().filter(|&&id| may_run_again(graph, graph.node(id))) {
            for output in &graph.node(id).outputs {
                kept.values[output.index()] = graph.outputs.contains(output);
            }
        }
        kept
    }

    /// The same without these values.
    pub(crate) fn without(mut self, values: &[ValueId]) -> Kept {
        values.iter().for_each(|value| self.values[value.index()] = false);
        self
    }

    /// The same with other levels.
    pub(crate) fn with_scopes(self, scopes: Scopes) -> Kept {
        Kept { scopes, ..self }
    }

    /// The levels at which what is not kept is made again.
    pub(crate) fn scopes(&self) -> &Scopes {
        &self.scopes
    }

    /// Whether a value is kept if anything reads it.
    pub fn contains(&self, value: ValueId) -> bool {
        self.values[value.index()]
    }
}

/// Whether a node can be repeated: it belongs to the forward, updates nothing, gives the same bits again, and decides nothing.
pub(crate) fn may_run_again(graph: &Graph, node: &Node) -> bool {
    let updates = node.outputs.iter().any(|&output| graph.value(output).storage != Storage::Arena);
    let gives_the_same = node.op.is_deterministic() && !node.op.is_decision();
    node.phase == Phase::Forward && !updates && node.op.donations().is_empty() && gives_the_same
}
