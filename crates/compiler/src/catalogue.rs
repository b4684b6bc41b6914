//! The plans that are worth choosing from, with what each takes in memory: which are beaten by others and which are not.
//!
//! A plan is beaten if another one takes no more memory and no more time, and less of one of them, and either keeps no more
//! from forward to backward or has a boundary for every block: a plan of the frontier that `plan` prints. (With fewer
//! boundaries, some more of them kept make up for more of them held in backward, so there a smaller budget may cost a
//! little transient memory.) So is a plan that keeps less than a boundary per block and takes more memory than that: it
//! would cost a small budget more than a larger one. For a budget, beaten plans are taken only where no other keeps so
//! little, or where that would be slower than a smaller budget's; and only such as nothing beats that keeps the budget, too.
//! Invariants: what is beaten, and what each budget gets, depends on the graph and the prices alone, never on the limits that
//! are asked for. Of two budgets the smaller never gives a faster plan, and no plan that is found keeps a budget and beats
//! what is chosen for it. Memory here is the arena. To place one takes as long as all else about a plan, so what
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
    scarce: OnceLock<Scarce>,
}

/// What budgets get that are too small for unbeaten plans.
struct Scarce {
    /// From how many bytes on, and which entry; the smallest budget first.
    chosen: Vec<(usize, usize)>,
    /// Budgets of so many bytes or more have unbeaten plans that are no slower.
    below_bytes: usize,
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
        Catalogue { entries, by_alive, by_region, by_region_kept_bytes, scarce: OnceLock::new() }
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
            let kept_bytes = entry.kept_bytes();
            let is_low = kept_bytes < self.by_region_kept_bytes;
            let counts =
                |other: &Entry| other.kept_bytes() <= kept_bytes || other.kept_bytes() >= self.by_region_kept_bytes;
            is_low && placing.arena_bytes(entry) > self.by_region_arena_bytes(placing)
                || self.is_beaten_by_any(entry, placing, counts)
        })
    }

    /// Whether one of the plans that count takes no more memory and no more time than `entry`, and less of one of them.
    fn is_beaten_by_any(&self, entry: &Entry, placing: Placing<'_>, counts: impl Fn(&Entry) -> bool) -> bool {
        let arena_bytes = placing.arena_bytes(entry);
        let may_beat = |other: &&Entry| counts(other) && other.ticks <= entry.ticks && !std::ptr::eq(*other, entry);
        // No arena is smaller than what is alive.
        self.by_alive().take_while(|other| other.alive_bytes <= arena_bytes).filter(may_beat).any(|other| {
            let other_bytes = placing.arena_bytes(other);
            other_bytes < arena_bytes || other_bytes == arena_bytes && other.ticks < entry.ticks
        })
    }

    /// The arena of a boundary per block.
    fn by_region_arena_bytes(&self, placing: Placing<'_>) -> usize {
        self.by_region.as_ref().map_or(usize::MAX, |by_region| placing.arena_bytes(by_region))
    }

    /// The fastest of the plans that a test accepts; of equally fast ones the smallest.
    fn fastest(&self, placing: Placing<'_>, accepts: impl Fn(&Entry) -> bool) -> Option<usize> {
        let accepted = |&index: &usize| accepts(&self.entries[index]);
        let first = (0..self.entries.len()).find(accepted)?;
        let as_fast = |&index: &usize| self.entries[index].ticks == self.entries[first].ticks;
        let equal = (first..self.entries.len()).take_while(as_fast).filter(accepted);
        equal.min_by_key(|&index| placing.arena_bytes(&self.entries[index]))
    }

    /// The fastest plan that keeps no more than a budget and is not beaten.
    fn unbeaten(&self, budget_bytes: usize, placing: Placing<'_>) -> Option<usize> {
        self.fastest(placing, |entry| entry.kept_bytes() <= budget_bytes && !self.is_beaten(entry, placing))
    }

    /// The smallest plan that keeps no more than a budget and is no slower than another one.
    fn smallest_as_fast(&self, budget_bytes: usize, ticks: u64, placing: Placing<'_>) -> Option<usize> {
        let mut smallest: Option<(usize, u64, usize)> = None;
        for &index in &self.by_alive {
            let entry = &self.entries[index as usize];
            if smallest.is_some_and(|(arena_bytes, ..)| entry.alive_bytes > arena_bytes) {
                break;
            }
            if entry.kept_bytes() <= budget_bytes && entry.ticks <= ticks {
                let this = (placing.arena_bytes(entry), entry.ticks, index as usize);
                smallest = Some(smallest.map_or(this, |smallest| smallest.min(this)));
            }
        }
        smallest.map(|(.., index)| index)
    }

    /// What the smallest budgets get, up to where unbeaten plans are there for all that follow.
    fn scarce(&self, placing: Placing<'_>) -> &Scarce {
        self.scarce.get_or_init(|| {
            let mut budgets: Vec<usize> = self.entries.iter().map(Entry::kept_bytes).collect();
            budgets.sort_unstable();
            budgets.dedup();
            let mut chosen: Vec<(usize, usize)> = Vec::new();
            let first =
                budgets.iter().find_map(|&bytes| self.unbeaten(bytes, placing)).map(|index| &self.entries[index]);
            let mut most_ticks = u64::MAX;
            for bytes in budgets {
                if self.unbeaten(bytes, placing).is_some_and(|index| self.entries[index].ticks <= most_ticks) {
                    return Scarce { chosen, below_bytes: bytes };
                }
                let index = first.and_then(|first| self.beaten_by_larger(bytes, most_ticks, first, placing));
                if let Some(index) = index {
                    most_ticks = self.entries[index].ticks;
                    chosen.push((bytes, index));
                }
            }
            Scarce { chosen, below_bytes: usize::MAX }
        })
    }

    /// A plan that keeps no more than a budget, takes no more time than a smaller budget's, and is beaten at most by what
    /// keeps more: the fastest that is not faster than `first`, which the first budget with an unbeaten plan gets; if there
    /// is none, the fastest in the arena of a boundary per block; else the smallest.
    fn beaten_by_larger(
        &self,
        budget_bytes: usize,
        most_ticks: u64,
        first: &Entry,
        placing: Placing<'_>,
    ) -> Option<usize> {
        let within = |entry: &Entry| entry.kept_bytes() <= budget_bytes;
        let keeps = |entry: &Entry| within(entry) && entry.ticks <= most_ticks;
        let limit_bytes = self.by_region_arena_bytes(placing);
        let is_small = |entry: &Entry| entry.alive_bytes <= limit_bytes && placing.arena_bytes(entry) <= limit_bytes;
        let is_slow = |entry: &Entry| budget_bytes < first.kept_bytes() && entry.ticks >= first.ticks;
        self.fastest(placing, |entry| keeps(entry) && is_slow(entry) && !self.is_beaten_by_any(entry, placing, within))
            .or_else(|| self.fastest(placing, |entry| keeps(entry) && is_small(entry)))
            .or_else(|| self.smallest_as_fast(budget_bytes, most_ticks, placing))
    }

    /// The plan for a budget: the fastest that keeps no more and is not beaten. Where nothing that keeps so little is
    /// unbeaten, or only what is slower than a smaller budget's plan, one that only larger budgets beat.
    pub(crate) fn within(&self, budget_bytes: usize, placing: Placing<'_>) -> Option<&Entry> {
        let scarce = self.scarce(placing);
        let index = if budget_bytes < scarce.below_bytes {
            let count = scarce.chosen.partition_point(|&(bytes, _)| bytes <= budget_bytes);
            scarce.chosen[..count].last().map(|&(_, index)| index)
        } else {
            self.unbeaten(budget_bytes, placing)
        };
        index.map(|index| &self.entries[index])
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
