//! The solver: from a graph and prices to the plans that are worth looking at.
//!
//! ```text
//! forward ──group──▶ regions, runs between them ──block──▶ frontier of each kind ──chain──▶ frontier of the graph
//!                                             └──levels──▶ fewer boundaries than blocks, made again from each other
//! ```
//!
//! Invariants: every point's bytes and seconds are those of the plan it stands for, measured on the graph itself and not
//! taken from the solver's sums; points do not depend on any budget, so that a larger budget can never choose a slower
//! plan. Look next at `catalogue` for which of them are worth anything.

mod block;
mod chain;
mod group;
mod levels;

use crate::Kept;
use crate::footprint::{Footprint, Forward};
use crate::outline::Outline;
use crate::scopes::{RegionScopes, Scopes, blocks};
use block::GroupChoice;
use chain::Assignment;
use group::{Group, Structure};
use levels::{Chain, Shape};
use remat_ir::{Graph, OpId};
use std::collections::HashMap;
use std::sync::Arc;

/// Points of a frontier, at most, and nodes that are looked at for all of them together.
const POINTS: usize = 1024;
const LOOKS: usize = 1 << 20;

/// No block is passed through more often than this for one backward; in a graph so large that a plan of it is several times
/// as long as others can be, no more often than the lesser number.
const MOST_TIMES: usize = 16;
const LEAST_TIMES: usize = 4;

/// Nodes of a graph that is small enough to weigh plans without a boundary for every region by bytes, too.
const SMALL: usize = 1024;

/// Every choice is a point where so many nodes or fewer may run again.
const ALL_CHOICES: usize = 10;

/// One choice of kept values, with what it comes to.
#[derive(Debug, Clone)]
pub(crate) struct Point {
    pub footprint: Footprint,
    /// The most bytes of the arena that are alive at once, where they were counted on the way.
    pub alive_bytes: Option<usize>,
    chosen: Chosen,
}

#[derive(Debug, Clone)]
enum Chosen {
    /// `every:N`; `full` is `every:1`.
    Segments(usize),
    /// A choice for each group; whether regions are levels.
    Choices(Arc<Solved>, Assignment, bool),
    /// Nodes that run again, each once.
    Again(Arc<Vec<OpId>>, u32),
    /// Fewer boundaries than blocks.
    Levels(Arc<Chain>, Shape),
    /// Everything is kept.
    Everything,
}

impl Point {
    /// The set it stands for.
    pub(crate) fn kept(&self, graph: &Graph) -> Kept {
        match &self.chosen {
            Chosen::Segments(regions) => Kept::segments(graph, *regions),
            Chosen::Choices(solved, assignment, levels) => {
                let rerun: Vec<OpId> = solved.rerun(assignment).filter(|(_, again)| *again).map(|(id, _)| id).collect();
                let kept = Kept::without_results_of(graph, &rerun);
                if *levels { kept.with_scopes(solved.scopes.clone()) } else { kept }
            }
            Chosen::Again(nodes, mask) => {
                let rerun: Vec<OpId> =
                    nodes.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1).map(|(_, &id)| id).collect();
                Kept::without_results_of(graph, &rerun)
            }
            Chosen::Levels(chain, shape) => chain.kept(graph, *shape),
            Chosen::Everything => Kept::everything(graph),
        }
    }
}

/// The points of a graph.
pub(crate) struct Points {
    /// Regions keep what they hand on: bytes and seconds of groups add, and the transient stays that of one region, so that
    /// the arena shrinks with the kept bytes. Fewest bytes first, each next point larger and faster.
    pub by_region: Vec<Point>,
    /// Fewer boundaries than blocks, as budgets want them: backward holds more than the forward keeps.
    pub levels: Vec<Point>,
    /// The same as small arenas want them: it does not.
    pub lean_levels: Vec<Point>,
    /// Whatever regions hand on: segments of several regions; of a small graph the frontier by bytes and seconds, and
    /// where there are few nodes, every choice.
    pub others: Vec<Point>,
}

impl Points {
    /// Of a simplified graph.
    pub(crate) fn of(graph: &Graph, outline: &Outline) -> Points {
        let seconds = &outline.seconds[..];
        let groups = group::groups(graph, seconds);
        let regions = groups.iter().filter(|group| group.is_region).count();
        let chain = Arc::new(Chain::of(&groups));
        let free: Vec<OpId> =
            groups.iter().filter(|group| !group.fixed).flat_map(|group| group.nodes.clone()).collect();
        let measured = |chosen: Chosen| {
            // What runs is written down once for both: levels are several times as long as the graph.
            let mut point = Point { footprint: Footprint::NOTHING, alive_bytes: None, chosen };
            let (footprint, alive_bytes) = outline.weighed(graph, &point.kept(graph));
            (point.footprint, point.alive_bytes) = (footprint, Some(alive_bytes));
            point
        };
        // Levels run several times as many nodes as the graph has.
        let looks = LOOKS / 4 / graph.nodes.len().max(1);
        let (budgets, arenas) = chain.shapes(looks.clamp(8, 96), looks.clamp(LEAST_TIMES, MOST_TIMES));
        let level = |shape: Shape| measured(Chosen::Levels(chain.clone(), shape));
        let scopes = RegionScopes::of_blocks(graph, &blocks(graph));
        let mut others: Vec<Point> =
            (1..regions).take(looks.clamp(8, 32)).map(|length| measured(Chosen::Segments(length))).collect();
        if free.len() <= ALL_CHOICES {
            let free = Arc::new(free);
            others.extend((1..1u32 << free.len()).map(|mask| measured(Chosen::Again(free.clone(), mask))));
        }
        if graph.nodes.len() <= SMALL {
            let solved = Arc::new(Solved::of(&groups, scopes.clone(), false));
            for assignment in chain::assignments(&solved.choices, &solved.class_of, 128) {
                let choices = |levels| measured(Chosen::Choices(solved.clone(), assignment.clone(), levels));
                others.extend([choices(false), choices(true)]);
            }
        }
        let solved = Arc::new(Solved::of(&groups, scopes, true));
        Points {
            by_region: by_region(graph, seconds, &solved, measured(Chosen::Segments(1))),
            levels: budgets.into_iter().map(level).collect(),
            lean_levels: arenas.into_iter().map(level).collect(),
            others,
        }
    }
}

/// See [`Points::by_region`].
fn by_region(graph: &Graph, seconds: &[f64], solved: &Arc<Solved>, full: Point) -> Vec<Point> {
    let forward = Forward::new(graph, seconds);
    let mut rerun = vec![false; forward.len()];
    let mut points = vec![full];
    let most = (LOOKS / graph.nodes.len().max(1)).clamp(32, POINTS);
    for assignment in chain::assignments(&solved.choices, &solved.class_of, most) {
        solved.rerun(&assignment).for_each(|(id, again)| rerun[forward.index_of(id)] = again);
        let footprint = forward.footprint_without(&rerun);
        points.push(Point { footprint, alive_bytes: None, chosen: Chosen::Choices(solved.clone(), assignment, true) });
    }
    rerun.fill(false);
    let footprint = forward.footprint_without(&rerun);
    points.push(Point { footprint, alive_bytes: None, chosen: Chosen::Everything });
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
    choices: Vec<Vec<GroupChoice>>,
    /// Each region is a level of its own.
    scopes: Scopes,
}

impl Solved {
    fn of(groups: &[Group], scopes: Scopes, keep_boundaries: bool) -> Solved {
        let mut classes: HashMap<Structure, usize> = HashMap::new();
        let mut solved = Solved { nodes: Vec::new(), class_of: Vec::new(), choices: Vec::new(), scopes };
        for group in groups {
            let class = *classes.entry(group.structure()).or_insert_with(|| {
                solved.choices.push(block::frontier(group, keep_boundaries && group.is_region));
                solved.choices.len() - 1
            });
            solved.class_of.push(class);
            solved.nodes.push(group.nodes.clone());
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
