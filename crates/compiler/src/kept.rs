//! Which values live from forward to backward, and what that choice costs.
//!
//! Kept is a set of values that backward may read where they were first computed; anything else that backward reads is
//! computed again. Invariant: sources, backward values, outputs and the results of updates are always kept.

use remat_ir::{Graph, Node, OpDef, OpId, Phase, Storage, ValueId};
use remat_plan::{Policy, Prices};

/// The values that backward may read where they were first computed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    values: Vec<bool>,
}

/// What a choice of kept values comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Footprint {
    /// Bytes of forward values that backward, or a recomputation for it, reads.
    pub activation_bytes: usize,
    /// Predicted seconds of all recomputation in one step.
    pub recompute_seconds: f64,
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
        let segments = segments(graph, regions_per_segment.max(1));
        let last = segments.iter().flatten().copied().max();
        let users = graph.users();
        let keep = |id: ValueId| {
            let Some((producer, _)) = graph.value(id).producer else { return true };
            let segment = segments[producer.index()];
            let crosses = |user: &OpId| graph.node(*user).phase == Phase::Forward && segments[user.index()] != segment;
            let once = !graph.node(producer).op.is_deterministic();
            once || segment.is_none()
                || segment == last
                || graph.outputs.contains(&id)
                || users[id.index()].iter().any(crosses)
        };
        Kept { values: graph.value_ids().map(keep).collect() }
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

    /// Whether a value is kept if anything reads it.
    pub fn contains(&self, value: ValueId) -> bool {
        self.values[value.index()]
    }

    /// Bytes and seconds of this choice, without building the plan: the closure of what backward demands. Linear in nodes.
    pub fn footprint(&self, graph: &Graph, prices: &Prices) -> Footprint {
        let seconds = |id: OpId| prices.seconds(graph, graph.node(id));
        self.footprint_at(graph, &seconds)
    }

    /// As [`Kept::footprint`], with the price of each node given.
    pub(crate) fn footprint_at(&self, graph: &Graph, seconds: &dyn Fn(OpId) -> f64) -> Footprint {
        let mut demanded = vec![false; graph.values.len()];
        let mut result = Footprint { activation_bytes: 0, recompute_seconds: 0.0 };
        for (index, node) in graph.nodes.iter().enumerate().rev() {
            let mut runs_behind_forward = node.phase == Phase::Backward;
            if !runs_behind_forward {
                for &output in node.outputs.iter().filter(|output| demanded[output.index()]) {
                    if !self.contains(output) {
                        runs_behind_forward = true;
                    } else if graph.value(output).storage == Storage::Arena {
                        result.activation_bytes += graph.ty(output).bytes();
                    }
                }
                if runs_behind_forward {
                    result.recompute_seconds += seconds(OpId(index as u32));
                }
            }
            if runs_behind_forward {
                node.inputs.iter().for_each(|input| demanded[input.index()] = true);
            }
        }
        result
    }
}

/// Whether a node can be repeated: it belongs to the forward, updates nothing, and gives the same bits again.
pub(crate) fn may_run_again(graph: &Graph, node: &Node) -> bool {
    let updates = node.outputs.iter().any(|&output| graph.value(output).storage != Storage::Arena);
    node.phase == Phase::Forward && !updates && node.op.donations().is_empty() && node.op.is_deterministic()
}

/// For each node, the number of its segment; `None` outside all regions and in backward.
fn segments(graph: &Graph, regions_per_segment: usize) -> Vec<Option<usize>> {
    // Outermost regions that hold forward nodes, in execution order.
    let outermost = |node: &Node| graph.region_path(node.region).first().copied();
    let mut order = Vec::new();
    for node in graph.nodes.iter().filter(|node| node.phase == Phase::Forward) {
        if let Some(region) = outermost(node)
            && !order.contains(&region)
        {
            order.push(region);
        }
    }
    let segment_of = |node: &Node| {
        let region = outermost(node).filter(|_| node.phase == Phase::Forward)?;
        Some(order.iter().position(|&other| other == region)? / regions_per_segment)
    };
    graph.nodes.iter().map(segment_of).collect()
}
