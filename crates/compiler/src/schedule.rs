//! Scheduling: one order of nodes. See [`Sequence::scheduled`] for the method; this is it for a graph that is written out.

use crate::facts::Facts;
use crate::sequence::Sequence;
use remat_ir::Graph;
use remat_plan::KernelRules;

/// The same graph in the order to run.
pub fn schedule(graph: Graph) -> Graph {
    // The order asks for no workspace, so any rules do.
    let sequence = Sequence::once(&graph).scheduled(&graph, &Facts::of(&graph, &KernelRules::GENERIC));
    let in_order = (0..sequence.len()).map(|run| sequence.node(run)).is_sorted();
    if in_order && is_numbered_in_order(&graph) { graph } else { sequence.graph(&graph) }
}

/// Whether values are numbered as a copy would number them: sources first, then results as they are made.
fn is_numbered_in_order(graph: &Graph) -> bool {
    let made = graph.nodes.iter().flat_map(|node| &node.outputs).map(|output| output.index());
    let sources = graph.values.iter().take_while(|value| value.producer.is_none()).count();
    made.eq(sources..graph.values.len())
}
