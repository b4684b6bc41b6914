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

use crate::Kept;
use crate::footprint::{Footprint, Forward};
use crate::kept::Regions;
use block::Choice;
use chain::Assignment;
use group::{Group, Structure};
use remat_ir::{Graph, OpId};
use remat_plan::Prices;
use std::collections::HashMap;
use std::sync::Arc;

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
    /// A choice for each group.
    Choices(Arc<Solved>, Assignment),
    /// Everything is kept.
    Everything,
}

impl Point {
    /// The set it stands for.
    pub(crate) fn kept(&self, graph: &Graph) -> Kept {
        match &self.chosen {
            Chosen::Segments(regions) => Kept::segments(graph, *regions),
            Chosen::Choices(solved, assignment) => {
                let rerun: Vec<OpId> = solved.rerun(assignment).filter(|(_, again)| *again).map(|(id, _)| id).collect();
                Kept::without_results_of(graph, &rerun)
            }
            Chosen::Everything => Kept::everything(graph),
        }
    }
}

/// The frontier by kept bytes and predicted seconds: fewest bytes first, each next point larger and faster. With
/// `keep_boundaries`, regions keep what they hand on: their transient stays that of one region, so that the arena
/// shrinks with the kept bytes.
pub(crate) fn frontier(graph: &Graph, prices: &Prices, keep_boundaries: bool) -> Vec<Point> {
    let seconds: Vec<f64> = graph.nodes.iter().map(|node| prices.seconds(graph, node)).collect();
    let groups = group::groups(graph, &seconds, if keep_boundaries { 0 } else { block::EXACT_ITEMS });
    let regions = groups.iter().filter(|group| group.is_region).count();
    let solved = Arc::new(Solved::of(groups, keep_boundaries));
    let forward = Forward::new(graph, &seconds);
    let mut rerun = vec![false; forward.len()];
    let mut points = Vec::new();
    for assignment in chain::assignments(&solved.choices, &solved.class_of, POINTS) {
        solved.rerun(&assignment).for_each(|(id, again)| rerun[forward.index_of(id)] = again);
        let footprint = forward.footprint_without(&rerun);
        points.push(Point { footprint, chosen: Chosen::Choices(solved.clone(), assignment) });
    }
    let segmented = Regions::of(graph);
    for length in if keep_boundaries { 1..2 } else { 1..regions.max(1) } {
        let footprint = forward.footprint(&segmented.segments(graph, length));
        points.push(Point { footprint, chosen: Chosen::Segments(length) });
    }
    points
        .push(Point { footprint: forward.footprint_without(&vec![false; forward.len()]), chosen: Chosen::Everything });
    undominated(points)
}

/// The groups of a graph, solved.
#[derive(Debug)]
struct Solved {
    /// Per group, its nodes.
    nodes: Vec<Vec<OpId>>,
    /// Per group, its class.
    class_of: Vec<usize>,
    /// Per class, its frontier.
    choices: Vec<Vec<Choice>>,
}

impl Solved {
    fn of(groups: Vec<Group>, keep_boundaries: bool) -> Solved {
        let mut classes: HashMap<Structure, usize> = HashMap::new();
        let mut solved = Solved { nodes: Vec::new(), class_of: Vec::new(), choices: Vec::new() };
        for group in groups {
            let class = *classes.entry(group.structure()).or_insert_with(|| {
                solved.choices.push(block::frontier(&group, keep_boundaries && group.is_region));
                solved.choices.len() - 1
            });
            solved.class_of.push(class);
            solved.nodes.push(group.nodes);
        }
        solved
    }

    /// Every forward node, and whether it runs again if it is needed.
    fn rerun(&self, assignment: &Assignment) -> impl Iterator<Item = (OpId, bool)> {
        let groups = self.nodes.iter().zip(&self.class_of).zip(assignment);
        let chosen = groups.map(|((nodes, &class), &choice)| (nodes, &self.choices[class][usize::from(choice)].rerun));
        chosen.flat_map(|(nodes, rerun)| nodes.iter().copied().zip(rerun.iter().copied()))
    }
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
