//! Graphs verified between passes.
//!
//! Invariant: in debug builds no pass takes over a graph that another one broke.

use remat_ir::{Graph, verify};

/// The graph, verified in debug builds: a pass that breaks it is a defect.
pub(crate) fn verified(graph: Graph) -> Graph {
    if cfg!(debug_assertions)
        && let Err(error) = verify(&graph)
    {
        panic!("a compiler pass broke the graph: {error}\n{graph}");
    }
    graph
}
