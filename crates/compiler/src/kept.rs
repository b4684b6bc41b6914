//! Which values live from forward to backward, and what that choice costs.
//!
//! Kept is a set of values that backward may read where they were first computed; anything else that backward reads is
//! computed again. Invariant: sources, backward values, outputs and the results of updates are always kept.

use remat_ir::{Graph, Node, OpDef, OpId, Phase, Storage, ValueId};
use remat_plan::Policy;

/// The values that backward may read where they were first computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    values: Vec<bool>,
}

impl Kept {
    /// Everything.
    pub fn everything(graph: &Graph) -> Kept {
        Kept { values: vec![true; graph.values.len()] }
    }

    /// What a function says, which is asked about every value; sources, backward values, outputs and what cannot be made
    /// again are kept whatever it says.
    pub fn from_fn(graph: &Graph, keep: impl Fn(ValueId) -> bool) -> Kept {
        let kept = |id: ValueId| match graph.value(id).producer {
            Some((producer, _)) => !Kept::can_recompute(graph, id, producer) || keep(id),
            None => true,
        };
        Kept { values: graph.value_ids().map(kept).collect() }
    }

    /// Whether a value of this producer can be made again for backward.
    pub fn can_recompute(graph: &Graph, id: ValueId, producer: OpId) -> bool {
        may_run_again(graph, graph.node(producer)) && !graph.outputs.contains(&id)
    }

    /// Segments of this many consecutive outermost regions: kept is every value made outside a segment, in the last
    /// segment (backward starts there, so recomputing it cannot save memory), or read in the forward outside the segment
    /// that makes it. Chen et al., *Training deep nets with sublinear memory cost*, 2016.
    pub fn segments(graph: &Graph, regions_per_segment: usize) -> Kept {
        Regions::of(graph).segments(graph, regions_per_segment)
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

    /// Everything but the results of the given nodes. Nodes that may not run twice are ignored.
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

    /// Whether a value is kept if anything reads it.
    pub fn contains(&self, value: ValueId) -> bool {
        self.values[value.index()]
    }
}

/// Whether a node can be repeated: it belongs to the forward, updates nothing, and gives the same bits again.
pub(crate) fn may_run_again(graph: &Graph, node: &Node) -> bool {
    let updates = node.outputs.iter().any(|&output| graph.value(output).storage != Storage::Arena);
    node.phase == Phase::Forward && !updates && node.op.donations().is_empty() && node.op.is_deterministic()
}

/// The outermost regions of the forward, numbered in execution order, and which of them read each value.
pub(crate) struct Regions {
    /// Per node, the number of its region; `None` outside all regions and in backward.
    of_node: Vec<Option<usize>>,
    /// Per value, the first and the last region that reads it.
    readers: Vec<Option<(usize, usize)>>,
    /// Per value, whether a forward node outside all regions reads it.
    read_outside: Vec<bool>,
    last: Option<usize>,
}

impl Regions {
    pub(crate) fn of(graph: &Graph) -> Regions {
        let mut numbers: Vec<Option<usize>> = vec![None; graph.regions.len()];
        let mut count = 0;
        let mut of_node = vec![None; graph.nodes.len()];
        let mut readers: Vec<Option<(usize, usize)>> = vec![None; graph.values.len()];
        let mut read_outside = vec![false; graph.values.len()];
        for (id, node) in graph.nodes_with_ids().filter(|(_, node)| node.phase == Phase::Forward) {
            let number = graph.outermost_region(node.region).map(|region| {
                *numbers[region.index()].get_or_insert_with(|| {
                    count += 1;
                    count - 1
                })
            });
            of_node[id.index()] = number;
            for input in &node.inputs {
                match (number, &mut readers[input.index()]) {
                    (None, _) => read_outside[input.index()] = true,
                    (Some(number), Some((first, last))) => (*first, *last) = (number.min(*first), number.max(*last)),
                    (Some(number), none) => *none = Some((number, number)),
                }
            }
        }
        Regions { of_node, readers, read_outside, last: usize::checked_sub(count, 1) }
    }

    /// See [`Kept::segments`].
    pub(crate) fn segments(&self, graph: &Graph, regions_per_segment: usize) -> Kept {
        let length = regions_per_segment.max(1);
        let last = self.last.map(|region| region / length);
        let keep = |id: ValueId| {
            let Some((producer, _)) = graph.value(id).producer else { return true };
            let segment = self.of_node[producer.index()].map(|region| region / length);
            let elsewhere = |region: usize| Some(region / length) != segment;
            let crosses = self.read_outside[id.index()]
                || self.readers[id.index()].is_some_and(|(first, last)| elsewhere(first) || elsewhere(last));
            let once = !graph.node(producer).op.is_deterministic();
            once || segment.is_none() || segment == last || crosses || graph.outputs.contains(&id)
        };
        Kept { values: graph.value_ids().map(keep).collect() }
    }
}
