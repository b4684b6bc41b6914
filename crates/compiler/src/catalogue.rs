//! The plans that are worth choosing from, with what each takes in memory: which are beaten by others and which are not.
//!
//! A plan is beaten if another one takes no more memory and no more time, and less of one of them, and either keeps no more
//! from forward to backward or has a boundary for every block: a plan of the frontier that `plan` prints. (With fewer
//! boundaries, some more of them kept make up for more of them held in backward, so there a smaller budget may cost a
//! little transient memory.) For a budget, beaten plans are taken only where no other keeps so little; `plan` says so.
//! Invariants: what is beaten depends on the graph and the prices alone, never on a budget or a limit. So of two budgets the
//! smaller never gives a faster plan. Memory here is what is alive at once, which a placement reaches or nearly; the arena
//! of small graphs, where it may not. Look next at `solve` for where plans come from, and at `select` for who chooses.

use crate::outline::Outline;
use crate::solve::{Point, Points};
use remat_ir::Graph;

/// Differences of seconds below this part of a step are none: sums of the same prices in another order.
const SAME: f64 = 1e-9;

/// Nodes of a small graph, at most.
const SMALL: usize = 256;

/// What a search knows of one choice of kept values.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) point: Point,
    /// The most bytes of the arena that are alive at once; of a small graph, its size.
    pub(crate) alive_bytes: usize,
    /// Seconds of recomputation in units that tell apart what differs.
    ticks: u64,
    /// Whether another one beats it.
    is_beaten: bool,
}

impl Entry {
    fn kept_bytes(&self) -> usize {
        self.point.footprint.activation_bytes
    }
}

/// All plans that were found.
pub(crate) struct Catalogue {
    /// The fastest first.
    entries: Vec<Entry>,
    /// What the smallest of the plans with a boundary per block keeps.
    steady_kept_bytes: usize,
}

impl Catalogue {
    pub(crate) fn of(graph: &Graph, outline: &Outline, points: &Points) -> Catalogue {
        let tick = (SAME * outline.seconds.iter().sum::<f64>()).max(f64::MIN_POSITIVE);
        let measured = |point: &Point, is_small: bool| {
            let kept = point.kept(graph);
            let alive_bytes =
                if is_small { outline.arena_bytes(graph, &kept) } else { outline.alive_bytes(graph, &kept) };
            let ticks = (point.footprint.recompute_seconds / tick).round() as u64;
            Entry { point: point.clone(), alive_bytes, ticks, is_beaten: false }
        };
        let nodes = graph.nodes.len();
        // Levels hold values in ways that are harder to place.
        let steady = points.steady.iter().map(|point| measured(point, nodes <= SMALL));
        let levels = points.levels.iter().map(|point| measured(point, nodes <= 8 * SMALL));
        let others = points.others.iter().map(|point| measured(point, nodes <= SMALL));
        let mut entries: Vec<Entry> = steady.chain(levels).chain(others).collect();
        let steady_kept_bytes = entries.first().map_or(0, Entry::kept_bytes);
        entries.extend(points.lean_levels.iter().map(|point| measured(point, nodes <= 8 * SMALL)));
        entries.sort_by_key(|entry| (entry.ticks, entry.alive_bytes, entry.kept_bytes()));
        mark_beaten(&mut entries, steady_kept_bytes);
        Catalogue { entries, steady_kept_bytes }
    }

    /// The fewest bytes that any of the plans keeps.
    pub(crate) fn least_kept_bytes(&self) -> usize {
        self.entries.iter().map(Entry::kept_bytes).min().unwrap_or(0)
    }

    fn unbeaten(&self) -> impl DoubleEndedIterator<Item = &Entry> {
        self.entries.iter().filter(|entry| !entry.is_beaten)
    }

    /// The plan for a budget: the fastest that keeps no more and is not beaten. Where nothing that keeps so little is
    /// unbeaten, the fastest of the others; but none that is faster than what larger budgets get, if there is a choice.
    pub(crate) fn within(&self, budget_bytes: usize) -> Option<&Entry> {
        let keeps = |entry: &&Entry| entry.kept_bytes() <= budget_bytes;
        let first = self.unbeaten().min_by_key(|entry| entry.kept_bytes())?;
        let low = || self.entries.iter().filter(|entry| entry.kept_bytes() < first.kept_bytes());
        let is_slow = |entry: &&Entry| entry.ticks >= first.ticks;
        let least_bytes = self.least_kept_bytes();
        let best = self.unbeaten().find(keeps);
        if first.kept_bytes() == least_bytes || low().filter(is_slow).any(|entry| entry.kept_bytes() == least_bytes) {
            return best.or_else(|| low().filter(keeps).find(is_slow));
        }
        // The smallest budgets get a fast plan that takes much memory; larger ones must not be slower.
        low().filter(keeps).chain(best).min_by_key(|entry| entry.ticks)
    }

    /// Plans that keep no more than a budget and have no more alive at once than a limit allows, the fastest first.
    pub(crate) fn fitting(&self, budget_bytes: usize, limit_bytes: usize) -> impl Iterator<Item = &Entry> {
        let fits = move |entry: &&Entry| entry.kept_bytes() <= budget_bytes && entry.alive_bytes <= limit_bytes;
        let mut least = usize::MAX;
        // Of what fits only what nothing faster undercuts.
        self.entries.iter().filter(fits).filter(move |entry| {
            let is_less = entry.alive_bytes < least;
            least = least.min(entry.alive_bytes);
            is_less
        })
    }

    /// The few plans that have least alive at once of those that keep no more than a budget, the smallest first.
    pub(crate) fn smallest(&self, budget_bytes: usize) -> Vec<&Entry> {
        let mut within: Vec<&Entry> = self.entries.iter().filter(|entry| entry.kept_bytes() <= budget_bytes).collect();
        within.sort_by_key(|entry| entry.alive_bytes);
        within.truncate(4);
        within
    }

    /// The plans with a boundary per block or more that no other beats, the smallest first; each keeps more than the one
    /// before it.
    pub(crate) fn frontier(&self) -> Vec<&Entry> {
        let mut frontier: Vec<&Entry> = Vec::new();
        for entry in self.unbeaten().filter(|entry| entry.kept_bytes() >= self.steady_kept_bytes) {
            if frontier.last().is_none_or(|faster| entry.kept_bytes() < faster.kept_bytes()) {
                frontier.push(entry);
            }
        }
        frontier.reverse();
        frontier
    }
}

/// Marks what others beat; `steady_kept_bytes` are kept by plans with a boundary for every block. The entries stand from the
/// fastest to the slowest, of equal ones the smallest first.
fn mark_beaten(entries: &mut [Entry], steady_kept_bytes: usize) {
    let mut least = usize::MAX;
    // Of what is as fast, (memory, kept) pairs that no other undercuts in both.
    let mut before: Vec<(usize, usize)> = Vec::new();
    for entry in entries {
        let (alive, kept) = (entry.alive_bytes, entry.kept_bytes());
        let undercut = before.iter().any(|&(bytes, keeps)| bytes <= alive && keeps <= kept);
        entry.is_beaten = alive >= least || undercut;
        if !undercut {
            before.retain(|&(bytes, keeps)| bytes < alive || keeps < kept);
            before.push((alive, kept));
        }
        if kept >= steady_kept_bytes {
            least = least.min(alive);
        }
    }
}
