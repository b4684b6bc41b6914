//! The solver: from a graph and prices to the time-memory frontier of the whole step.
//!
//! ```text
//! forward ──group──▶ regions, runs between them ──block──▶ frontier of each kind ──chain──▶ frontier of the graph
//! ```
//!
//! Invariants: every point's bytes and seconds are those of the plan it stands for, measured on the graph itself and not
//! taken from the solver's sums; the frontier does not depend on any budget, so that a larger budget can never choose a
//! slower plan; it holds the plans of `none`, `full` and `every:N` unless better ones are in it.

mod block;
mod chain;
mod group;

use crate::{Footprint, Kept};
use block::Choice;
use group::{Group, Structure};
use remat_ir::{Graph, OpId};
use remat_plan::Prices;
use std::collections::HashMap;

/// Points measured on the graph, at most.
const POINTS: usize = 2048;

/// One choice of kept values, with what it comes to.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub footprint: Footprint,
    chosen: Chosen,
}

#[derive(Debug, Clone)]
enum Chosen {
    /// `every:N`; `full` is `every:1`.
    Segments(usize),
    /// Nodes to run again.
    Rerun(Vec<OpId>),
}

impl Point {
    /// The set it stands for.
    pub(crate) fn kept(&self, graph: &Graph) -> Kept {
        match &self.chosen {
            Chosen::Segments(regions) => Kept::segments(graph, *regions),
            Chosen::Rerun(nodes) => Kept::without_results_of(graph, nodes),
        }
    }
}

/// The frontier by kept bytes and predicted seconds: fewest bytes first, each next point larger and faster. With
/// `keep_boundaries`, regions keep what they hand on: their transient stays that of one region, so that the arena
/// shrinks with the kept bytes.
pub(crate) fn frontier(graph: &Graph, prices: &Prices, keep_boundaries: bool) -> Vec<Point> {
    let seconds: Vec<f64> = graph.nodes.iter().map(|node| prices.seconds(graph, node)).collect();
    let groups = group::groups(graph, &seconds, if keep_boundaries { 0 } else { block::EXACT_ITEMS });
    let (choices, class_of) = solved(&groups, keep_boundaries);
    let regions = groups.iter().filter(|group| group.is_region).count();
    let rerun = |assignment: Vec<u16>| {
        let mut nodes = Vec::new();
        for ((group, class), choice) in groups.iter().zip(&class_of).zip(assignment) {
            let rerun = &choices[*class][choice as usize].rerun;
            nodes.extend(group.nodes.iter().zip(rerun).filter(|(_, again)| **again).map(|(&id, _)| id));
        }
        Chosen::Rerun(nodes)
    };
    let mut chosen: Vec<Chosen> = chain::assignments(&choices, &class_of, POINTS).into_iter().map(rerun).collect();
    let lengths = if keep_boundaries { 1..2 } else { 1..regions.max(1) };
    chosen.extend(lengths.map(Chosen::Segments));
    chosen.push(Chosen::Rerun(Vec::new()));
    let measured = chosen.into_iter().map(|chosen| {
        let mut point = Point { footprint: Footprint { activation_bytes: 0, recompute_seconds: 0.0 }, chosen };
        point.footprint = point.kept(graph).footprint_at(graph, &|id| seconds[id.index()]);
        point
    });
    undominated(measured.collect())
}

/// The frontier of each class of groups, and the class of each group.
fn solved(groups: &[Group], keep_boundaries: bool) -> (Vec<Vec<Choice>>, Vec<usize>) {
    let mut classes: HashMap<Structure, usize> = HashMap::new();
    let mut choices = Vec::new();
    let mut class_of = Vec::with_capacity(groups.len());
    for group in groups {
        let class = *classes.entry(group.structure()).or_insert_with(|| {
            choices.push(block::frontier(group, keep_boundaries && group.is_region));
            choices.len() - 1
        });
        class_of.push(class);
    }
    (choices, class_of)
}

fn undominated(mut points: Vec<Point>) -> Vec<Point> {
    points.sort_by(|a, b| {
        let (a, b) = (a.footprint, b.footprint);
        a.activation_bytes.cmp(&b.activation_bytes).then(a.recompute_seconds.total_cmp(&b.recompute_seconds))
    });
    let mut best = f64::INFINITY;
    points.retain(|point| {
        let better = point.footprint.recompute_seconds < best;
        if better {
            best = point.footprint.recompute_seconds;
        }
        better
    });
    points
}
