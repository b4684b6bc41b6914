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
//! is alive at once, below which no arena is, says which plans can beat one at all, and only those are placed. What is alive is
//! counted where it is asked for: of a plan that keeps more than a limit it never is. Look next at `solve` for where plans
//! come from, and at `select` for who chooses.

use crate::outline::Outline;
use crate::solve::{Point, Points};
use remat_ir::Graph;
use std::sync::{Arc, OnceLock};

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
    /// Seconds of recomputation in units that tell apart what differs.
    ticks: u64,
    /// Whether its graph is so small that its arena is told apart by its size.
    is_small: bool,
    alive_bytes: OnceLock<usize>,
    arena_bytes: OnceLock<usize>,
    is_beaten: OnceLock<bool>,
}

impl Entry {
    fn of(point: &Point, is_small: bool, tick: f64) -> Entry {
        let ticks = (point.footprint.recompute_seconds / tick).round() as u64;
        let alive_bytes = OnceLock::new();
        if let (Some(bytes), false) = (point.alive_bytes, is_small) {
            alive_bytes.get_or_init(|| bytes);
        }
        Entry {
            point: point.clone(),
            ticks,
            is_small,
            alive_bytes,
            arena_bytes: OnceLock::new(),
            is_beaten: OnceLock::new(),
        }
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

    /// The most bytes of a plan's arena that are alive at once; of a small graph, its size.
    pub(crate) fn alive_bytes(self, entry: &Entry) -> usize {
        let counted = || self.outline.alive_bytes(self.graph, &entry.point.kept(self.graph));
        *entry.alive_bytes.get_or_init(|| if entry.is_small { self.arena_bytes(entry) } else { counted() })
    }
}

/// All plans that were found.
pub(crate) struct Catalogue {
    /// The fastest first.
    entries: Vec<Arc<Entry>>,
    /// Bytes that a plan keeps and may still not have alive when the forward ends: what sinks to its first reader.
    sinking_bytes: usize,
    sorted: OnceLock<Sorted>,
    /// The smallest of the plans with a boundary per block, and what it keeps.
    by_region: Option<Entry>,
    by_region_kept_bytes: usize,
    scarce: OnceLock<Scarce>,
}

/// All plans by what they have alive at once.
struct Sorted {
    /// The fastest first, of equal ones the smallest.
    entries: Vec<Arc<Entry>>,
    /// Per entry, whether another one would beat it if arenas were what is alive.
    has_more_alive: Vec<bool>,
    /// Indices of the entries by what they have alive at once, the least first.
    by_alive: Vec<u32>,
}

impl Sorted {
    /// What has least alive at once first.
    fn by_alive(&self) -> impl Iterator<Item = &Entry> {
        self.by_alive.iter().map(|&index| &*self.entries[index as usize])
    }
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
        let by_region = points.by_region.first().map(|point| Entry::of(point, false, tick));
        let by_region_kept_bytes = by_region.as_ref().map_or(0, Entry::kept_bytes);
        let (regular, levels) = ([&points.by_region, &points.others], [&points.levels, &points.lean_levels]);
        let nodes = graph.nodes.len();
        let regular = regular.into_iter().flatten().map(|point| Entry::of(point, nodes <= SMALL, tick));
        // Levels hold values in ways that are harder to place.
        let levels = levels.into_iter().flatten().map(|point| Entry::of(point, nodes <= 8 * SMALL, tick));
        let mut entries: Vec<Arc<Entry>> = regular.chain(levels).map(Arc::new).collect();
        entries.sort_by_key(|entry| entry.ticks);
        Catalogue {
            entries,
            sinking_bytes: outline.sinking_bytes(graph),
            sorted: OnceLock::new(),
            by_region,
            by_region_kept_bytes,
            scarce: OnceLock::new(),
        }
    }

    /// With what all of them have alive.
    fn sorted(&self, placing: Placing<'_>) -> &Sorted {
        self.sorted.get_or_init(|| {
            let mut entries = self.entries.clone();
            entries.sort_by_key(|entry| (entry.ticks, placing.alive_bytes(entry), entry.kept_bytes()));
            let has_more_alive = have_more_alive(&entries, placing, self.by_region_kept_bytes);
            let mut by_alive: Vec<u32> = (0..entries.len() as u32).collect();
            by_alive.sort_by_key(|&index| placing.alive_bytes(&entries[index as usize]));
            Sorted { entries, has_more_alive, by_alive }
        })
    }

    /// Whether a plan may have no more alive at once than a limit allows, as far as what it keeps tells.
    fn may_have_alive(&self, entry: &Entry, limit_bytes: usize) -> bool {
        entry.kept_bytes() <= limit_bytes.saturating_add(self.sinking_bytes)
    }

    /// The fewest bytes that any of the plans keeps.
    pub(crate) fn least_kept_bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.kept_bytes()).min().unwrap_or(0)
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
        let may_be_smaller = |other: &&Entry| placing.alive_bytes(other) <= arena_bytes;
        self.sorted(placing).by_alive().take_while(may_be_smaller).filter(may_beat).any(|other| {
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
        let entries = &self.sorted(placing).entries;
        let accepted = |&index: &usize| accepts(&entries[index]);
        let first = (0..entries.len()).find(accepted)?;
        let as_fast = |&index: &usize| entries[index].ticks == entries[first].ticks;
        let equal = (first..entries.len()).take_while(as_fast).filter(accepted);
        equal.min_by_key(|&index| placing.arena_bytes(&entries[index]))
    }

    /// The fastest plan that keeps no more than a budget and is not beaten.
    fn unbeaten(&self, budget_bytes: usize, placing: Placing<'_>) -> Option<usize> {
        self.fastest(placing, |entry| entry.kept_bytes() <= budget_bytes && !self.is_beaten(entry, placing))
    }

    /// The smallest plan that keeps no more than a budget and is no slower than another one.
    fn smallest_as_fast(&self, budget_bytes: usize, ticks: u64, placing: Placing<'_>) -> Option<usize> {
        let mut smallest: Option<(usize, u64, usize)> = None;
        let sorted = self.sorted(placing);
        for &index in &sorted.by_alive {
            let entry = &sorted.entries[index as usize];
            if smallest.is_some_and(|(arena_bytes, ..)| placing.alive_bytes(entry) > arena_bytes) {
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
            let entries = &self.sorted(placing).entries;
            let mut budgets: Vec<usize> = entries.iter().map(|entry| entry.kept_bytes()).collect();
            budgets.sort_unstable();
            budgets.dedup();
            let mut chosen: Vec<(usize, usize)> = Vec::new();
            let first = budgets.iter().find_map(|&bytes| self.unbeaten(bytes, placing)).map(|index| &*entries[index]);
            let mut most_ticks = u64::MAX;
            for bytes in budgets {
                if self.unbeaten(bytes, placing).is_some_and(|index| entries[index].ticks <= most_ticks) {
                    return Scarce { chosen, below_bytes: bytes };
                }
                let index = first.and_then(|first| self.beaten_by_larger(bytes, most_ticks, first, placing));
                if let Some(index) = index {
                    most_ticks = entries[index].ticks;
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
        let is_small =
            |entry: &Entry| placing.alive_bytes(entry) <= limit_bytes && placing.arena_bytes(entry) <= limit_bytes;
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
        index.map(|index| &*self.sorted(placing).entries[index])
    }

    /// Plans that keep no more than a budget and have no more alive at once than a limit allows, the fastest first.
    pub(crate) fn fitting<'a>(
        &'a self,
        budget_bytes: usize,
        limit_bytes: usize,
        placing: Placing<'a>,
    ) -> impl Iterator<Item = &'a Entry> {
        let fits = move |entry: &&Entry| {
            entry.kept_bytes() <= budget_bytes
                && self.may_have_alive(entry, limit_bytes)
                && placing.alive_bytes(entry) <= limit_bytes
        };
        let smallest_first = move |as_fast: &'a [Arc<Entry>]| {
            let mut as_fast: Vec<&Entry> = as_fast.iter().map(|entry| &**entry).filter(fits).collect();
            as_fast.sort_by_key(|entry| (placing.alive_bytes(entry), entry.kept_bytes()));
            as_fast
        };
        let mut least = usize::MAX;
        // Of what fits only what nothing faster undercuts.
        self.entries.chunk_by(|a, b| a.ticks == b.ticks).flat_map(smallest_first).filter(move |entry| {
            let is_less = placing.alive_bytes(entry) < least;
            least = least.min(placing.alive_bytes(entry));
            is_less
        })
    }

    /// The few plans that have least alive at once of those that keep no more than a budget, the least first.
    fn least_alive(&self, budget_bytes: usize, placing: Placing<'_>) -> Vec<&Entry> {
        let mut by_kept: Vec<usize> = (0..self.entries.len()).collect();
        by_kept.retain(|&index| self.entries[index].kept_bytes() <= budget_bytes);
        by_kept.sort_by_key(|&index| self.entries[index].kept_bytes());
        let mut least: Vec<(usize, u64, usize, usize)> = Vec::with_capacity(MOST_PLACED + 1);
        for index in by_kept {
            let entry = &self.entries[index];
            let most = if least.len() < MOST_PLACED { usize::MAX } else { least[MOST_PLACED - 1].0 };
            if !self.may_have_alive(entry, most) {
                break;
            }
            least.push((placing.alive_bytes(entry), entry.ticks, entry.kept_bytes(), index));
            least.sort_unstable();
            least.truncate(MOST_PLACED);
        }
        least.into_iter().map(|(.., index)| &*self.entries[index]).collect()
    }

    /// The plan with the smallest arena of the few that have least alive at once of those that keep no more than a budget.
    pub(crate) fn smallest(&self, budget_bytes: usize, placing: Placing<'_>) -> Option<&Entry> {
        let mut smallest: Option<&Entry> = None;
        for entry in self.least_alive(budget_bytes, placing) {
            let least = smallest.map_or(usize::MAX, |smallest| placing.arena_bytes(smallest));
            if placing.alive_bytes(entry) >= least {
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
    pub(crate) fn frontier(&self, placing: Placing<'_>) -> Vec<&Entry> {
        let mut frontier: Vec<&Entry> = Vec::new();
        let Sorted { entries, has_more_alive, .. } = self.sorted(placing);
        let unbeaten =
            entries.iter().zip(has_more_alive).filter(|(_, has_more)| !**has_more).map(|(entry, _)| &**entry);
        for entry in unbeaten.filter(|entry| entry.kept_bytes() >= self.by_region_kept_bytes) {
            if frontier.last().is_none_or(|faster| entry.kept_bytes() < faster.kept_bytes()) {
                frontier.push(entry);
            }
        }
        frontier.reverse();
        frontier
    }
}

/// Per entry, whether others beat it if arenas were what is alive; `by_region_kept_bytes` are kept by plans with a boundary
/// for every block. The entries stand from the fastest to the slowest, of equal ones the smallest first.
fn have_more_alive(entries: &[Arc<Entry>], placing: Placing<'_>, by_region_kept_bytes: usize) -> Vec<bool> {
    let mut least = usize::MAX;
    // Of what is as fast, (memory, kept) pairs that no other undercuts in both.
    let mut before: Vec<(usize, usize)> = Vec::new();
    let has_more_alive = |entry: &Arc<Entry>| {
        let (alive, kept) = (placing.alive_bytes(entry), entry.kept_bytes());
        let undercut = before.iter().any(|&(bytes, keeps)| bytes <= alive && keeps <= kept);
        let has_more_alive = alive >= least || undercut;
        if !undercut {
            before.retain(|&(bytes, keeps)| bytes < alive || keeps < kept);
            before.push((alive, kept));
        }
        if kept >= by_region_kept_bytes {
            least = least.min(alive);
        }
        has_more_alive
    };
    entries.iter().map(has_more_alive).collect()
}
