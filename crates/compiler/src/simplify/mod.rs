//! Rewrites that make a graph cheaper without changing what it means: fused forms, folded sums, dead code.
//!
//! Invariant: simplification is the same for every policy, so that all plans of one graph share its rounding points.

mod dead_code;
mod edit;
mod fold_accumulate;
mod fold_low_rank;
mod fold_residual;
mod fuse_cross_entropy;

use remat_ir::Graph;

/// Applies every rewrite once, in this order.
pub fn simplify(graph: Graph) -> Graph {
    let graph = dead_code::remove(graph);
    let graph = fuse_cross_entropy::fuse(graph);
    let graph = fold_accumulate::fold(graph);
    let graph = fold_residual::fold(graph);
    let graph = fold_low_rank::fold(graph);
    dead_code::remove(graph)
}
