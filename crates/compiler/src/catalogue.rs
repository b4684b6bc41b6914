//! The plans that are worth choosing from, with what each takes in memory: which are beaten by others and which are not.
//!
//! A plan is beaten if another one takes no more memory and no more time, and less of one of them, and either keeps no more
//! from forward to backward or has a boundary for every block: a plan of the frontier that `plan` prints. (With fewer
//! boundaries, some more of them kept make up for more of them held in backward, so there a smaller budget may cost a
//! little transient memory.) So is a plan that keeps less than a boundary per block and takes more memory than that: it
//! would cost a small budget more than a larger one. For a budget, beaten plans are taken only where no other keeps so
//! little; `plan` says so.
//! Invariants: what is beaten depends on the graph and the prices alone, never on a budget or a limit. So of two budgets the
//! smaller never gives a faster plan. Memory here is the arena. To place one takes as long as all else about a plan, so what
//! is alive at once, below which no arena is, says which plans can beat one at all, and only those are placed. Look next at
//! `solve` for where plans come from, and at `select` for who chooses.

use crate::outline::Outline;
use crate::solve::{Point, Points};
use remat_ir::Graph;
use std::sync::OnceLock;

/// Differences of seconds below this part of a step are none: sums of the same prices in another order.
const SAME: f64 = 1e-9;

/// Nodes of a small graph, at most.
const SMALL: usize = 256;

/// Plans that are placed to find the smallest.
const MOST_PLACED: usize = 4;

/// What a search knows of one choice of kept values.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) point: Point,
    /// The most bytes of the arena that are alive at once; of a small graph, its size.
    pub(crate) alive_bytes: usize,
    /// Seconds of recomputation in units that tell apart what differs.
    ticks: u64,
    /// Whether another one would beat it if arenas were what is alive.
    has_more_alive: bool,
    arena_bytes: OnceLock<usize>,
    is_beaten: OnceLock<bool>,
}

impl Entry {
    fn of(point: &Point, alive_bytes: usize, tick: f64) -> Entry {
        let ticks = (point.footprint.recompute_seconds / tick).round() as u64;
        let (arena_bytes, is_beaten) = (OnceLock::new(), OnceLock::new());
        Entry { point: point.clone(), alive_bytes, ticks, has_more_alive: false, arena_bytes, is_beaten }
    }

    fn kept_bytes(&self) -> usize {
        self.point.footprint.activation_bytes
    }
}

/// What plans of a graph are placed with.
#[derive(Clone, Copy)]
pub(crate) struct Placing<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) outline: &'a Outline,
}

impl Placing<'_> {
    /// The size of a plan's arena.
    pub(crate) fn arena_bytes(self, entry: &Entry) -> usize {
        let placed = || self.outline.arena_bytes(self.graph, &entry.point.kept(self.graph));
        *entry.arena_bytes.get_or_init(placed)
    }
}

/// All plans that were found.
pub(crate) struct Catalogue {
    /// The fastest first.
    entries: Vec<Entry>,
    /// Indices of the entries by what they have alive at once, the least first.
    by_alive: Vec<u32>,
    /// The smallest of the plans with a boundary per block, and what it keeps.
    by_region: Option<Entry>,
    by_region_kept_bytes: usize,
    /// Of the plans that are not beaten, the one that keeps least.
    least_unbeaten: OnceLock<usize>,
}

impl Catalogue {
    pub(crate) fn of(graph: &Graph, outline: &Outline, points: &Points) -> Catalogue {
        let tick = (SAME * outline.seconds.iter().sum::<f64>()).max(f64::MIN_POSITIVE);
        let measured = |point: &Point, is_small: bool| {
            let alive_bytes = match point.alive_bytes {
                _ if is_small => outline.arena_bytes(graph, &point.kept(graph)),
                Some(alive_bytes) => alive_bytes,
                None => outline.alive_bytes(graph, &point.kept(graph)),
            };
            Entry::of(point, alive_bytes, tick)
        };
        let by_region = points.by_region.first().map(|point| measured(point, false));
        let by_region_kept_bytes = by_region.as_ref().map_or(0, Entry::kept_bytes);
        let (regular, levels) = ([&points.by_region, &points.others], [&points.levels, &points.lean_levels]);
        let nodes = graph.nodes.len();
        let regular = regular.into_iter().flatten().map(|point| measured(point, nodes <= SMALL));
        // Levels hold values in ways that are harder to place.
        let levels = levels.into_iter().flatten().map(|point| measured(point, nodes <= 8 * SMALL));
        let mut entries: Vec<Entry> = regular.chain(levels).collect();
        entries.sort_by_key(|entry| (entry.ticks, entry.alive_bytes, entry.kept_bytes()));
        mark_more_alive(&mut entries, by_region_kept_bytes);
        let mut by_alive: Vec<u32> = (0..entries.len() as u32).collect();
        by_alive.sort_by_key(|&index| entries[index as usize].alive_bytes);
        Catalogue { entries, by_alive, by_region, by_region_kept_bytes, least_unbeaten: OnceLock::new() }
    }

    /// The fewest bytes that any of the plans keeps.
    pub(crate) fn least_kept_bytes(&self) -> usize {
        self.entries.iter().map(Entry::kept_bytes).min().unwrap_or(0)
    }

    /// What has least alive at once first.
    fn by_alive(&self) -> impl Iterator<Item = &Entry> {
        self.by_alive.iter().map(|&index| &self.entries[index as usize])
    }

    /// Whether another plan beats one, by their arenas.
    fn is_beaten(&self, entry: &Entry, placing: Placing<'_>) -> bool {
        *entry.is_beaten.get_or_init(|| {
            let (kept_bytes, arena_bytes) = (entry.kept_bytes(), placing.arena_bytes(entry));
            let by_region = self.by_region.as_ref().filter(|_| kept_bytes < self.by_region_kept_bytes);
            if by_region.is_some_and(|by_region| arena_bytes > placing.arena_bytes(by_region)) {
                return true;
            }
            let may_beat = |other: &&Entry| {
                let counts = other.kept_bytes() <= kept_bytes || other.kept_bytes() >= self.by_region_kept_bytes;
                counts && other.ticks <= entry.ticks && !std::ptr::eq(*other, entry)
            };
            // No arena is smaller than what is alive.
            let no_more_alive = self.by_alive().take_while(|other| other.alive_bytes <= arena_bytes);
            no_more_alive.filter(may_beat).any(|other| {
                let other_bytes = placing.arena_bytes(other);
                other_bytes < arena_bytes || other_bytes == arena_bytes && other.ticks < entry.ticks
            })
        })
    }

    /// Of the plans that are not beaten, the one that keeps least.
    fn least_unbeaten(&self, placing: Placing<'_>) -> Option<&Entry> {
        let find = || {
            let mut order: Vec<usize> = (0..self.entries.len()).collect();
            order.sort_by_key(|&index| self.entries[index].kept_bytes());
            let is_unbeaten = |&index: &usize| !self.is_beaten(&self.entries[index], placing);
            order.into_iter().find(is_unbeaten).unwrap_or(usize::MAX)
        };
        self.entries.get(*self.least_unbeaten.get_or_init(find))
    }

    /// The plan for a budget: the fastest that keeps no more and is not beaten. Where nothing that keeps so little is
    /// unbeaten, the fastest of the others; but none that is faster than what larger budgets get, if there is a choice.
    pub(crate) fn within(&self, budget_bytes: usize, placing: Placing<'_>) -> Option<&Entry> {
        let keeps = |entry: &&Entry| entry.kept_bytes() <= budget_bytes;
        let least = self.least_unbeaten(placing)?;
        let low = || self.entries.iter().filter(|entry| entry.kept_bytes() < least.kept_bytes());
        let is_slow = |entry: &&Entry| entry.ticks >= least.ticks;
        let least_bytes = self.least_kept_bytes();
        let best = self.entries.iter().filter(keeps).find(|entry| !self.is_beaten(entry, placing));
        if least.kept_bytes() == least_bytes || low().filter(is_slow).any(|entry| entry.kept_bytes() == least_bytes) {
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

    /// The plan with the smallest arena of the few that have least alive at once of those that keep no more than a budget.
    pub(crate) fn smallest(&self, budget_bytes: usize, placing: Placing<'_>) -> Option<&Entry> {
        let mut smallest: Option<&Entry> = None;
        for entry in self.by_alive().filter(|entry| entry.kept_bytes() <= budget_bytes).take(MOST_PLACED) {
            let least = smallest.map_or(usize::MAX, |smallest| placing.arena_bytes(smallest));
            if entry.alive_bytes >= least {
                break;
            }
            if placing.arena_bytes(entry) < least {
                smallest = Some(entry);
            }
        }
        smallest
    }

    /// The plans with a boundary per block or more that no other beats by what they have alive, the smallest first; each
    /// keeps more than the one before it.
    pub(crate) fn frontier(&self) -> Vec<&Entry> {
        let mut frontier: Vec<&Entry> = Vec::new();
        let by_region = |entry: &&Entry| !entry.has_more_alive && entry.kept_bytes() >= self.by_region_kept_bytes;
        for entry in self.entries.iter().filter(by_region) {
            if frontier.last().is_none_or(|faster| entry.kept_bytes() < faster.kept_bytes()) {
                frontier.push(entry);
            }
        }
        frontier.reverse();
        frontier
    }
}

/// Marks what others beat if arenas were what is alive; `by_region_kept_bytes` are kept by plans with a boundary for every block.
/// The entries stand from the fastest to the slowest, of equal ones the smallest first.
fn mark_more_alive(entries: &mut [Entry], by_region_kept_bytes: usize) {
    let mut least = usize::MAX;
    // Of what is as fast, (memory, kept) pairs that no other undercuts in both.
    let mut before: Vec<(usize, usize)> = Vec::new();
    for entry in entries {
        let (alive, kept) = (entry.alive_bytes, entry.kept_bytes());
        let undercut = before.iter().any(|&(bytes, keeps)| bytes <= alive && keeps <= kept);
        entry.has_more_alive = alive >= least || undercut;
        if !undercut {
            before.retain(|&(bytes, keeps)| bytes < alive || keeps < kept);
            before.push((alive, kept));
        }
        if kept >= by_region_kept_bytes {
            least = least.min(alive);
        }
    }
}
