//! Scheduling: one order of nodes. See [`Sequence::scheduled`] for the method; this is it for a graph that is written out.

use crate::facts::Facts;
use crate::sequence::Sequence;
use remat_ir::Graph;
use remat_plan::KernelRules;

/// The same graph in the order to run.
pub fn schedule(graph: Graph) -> Graph {
    // The order asks for no workspace, so any rules do.
    let sequence = Sequence::once(&graph).scheduled(&graph, &Facts::of(&graph, &KernelRules::GENERIC));
    if sequence.is_all_of(&graph) { graph } else { sequence.graph(&graph) }
}
