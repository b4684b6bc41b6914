//! The search for a plan with weights off memory.
//!
//! Method: a fixed list of candidates: each of a few plans that keep much or little, with some or none of its kept values
//! offloaded; with so many units of weights off memory; with so many bytes fetched ahead. Time and least memory of each are
//! known without placing it, so it is walked from the fastest on, and placed only what may fit and may be faster than what
//! was found. Of equally fast candidates the one with the fewest bytes off memory comes first. Invariant: the list depends on
//! no limit, so more memory never makes a plan slower.

use super::inserted::{Inserted, stays_of};
use super::outlook::Outlook;
use super::units::{Unit, WeightsOffMemory, names_of, states_named};
use super::windows::{Window, begin_ahead, end_behind, starts, windows};
use crate::copies::{OffloadCandidate, Pace, candidates, residences};
use crate::place::Residence;
use remat_ir::ValueId;
use remat_plan::{DeviceProfile, Plan};
use std::collections::HashSet;

/// Kept values of fewer bytes are not worth a copy.
const LEAST_BYTES: usize = 4096;

/// Numbers of weights off memory that are tried at most, beside none.
const LEVELS: usize = 32;

/// How many halves of a unit of middle size may be fetched ahead of their readers.
const AHEAD: [usize; 6] = [32, 8, 4, 2, 1, 0];

/// A plan to begin from, and which of its kept values leave the arena.
struct Base {
    plan: Plan,
    /// Ways to offload: each with its stays.
    ways: Vec<Vec<(OffloadCandidate, Residence)>>,
}

/// One plan that could be made.
struct Candidate {
    base: usize,
    way: usize,
    /// How many units are off memory.
    level: usize,
    ahead_bytes: usize,
    /// By the outlook: no slower plan comes of it, and no smaller one.
    seconds: f64,
    bytes: usize,
}

/// All that can be made of one problem under one policy.
pub(super) struct Search<'a> {
    profile: &'a DeviceProfile,
    units: Vec<Unit>,
    /// Of all weights.
    weight_bytes: usize,
    bases: Vec<Base>,
    /// The fastest first.
    candidates: Vec<Candidate>,
}

impl<'a> Search<'a> {
    /// `forced` are off memory at every level.
    pub(super) fn of(
        bases: impl Iterator<Item = Plan>,
        (forced, units): (Option<Unit>, Vec<Unit>),
        weight_bytes: usize,
        profile: &'a DeviceProfile,
    ) -> Self {
        let least = usize::from(forced.is_some());
        let units: Vec<Unit> = forced.into_iter().chain(units).collect();
        let mut search = Search { profile, units, weight_bytes, bases: Vec::new(), candidates: Vec::new() };
        let levels = levels(least, search.units.len());
        for plan in (!levels.is_empty()).then_some(bases).into_iter().flatten() {
            let ways = ways_to_offload(&plan, profile);
            search.bases.push(Base { plan, ways });
            search.add_candidates(&levels);
        }
        let order = |a: &Candidate, b: &Candidate| {
            let key = |of: &Candidate| (of.level, of.ahead_bytes, of.base, of.way);
            a.seconds.total_cmp(&b.seconds).then_with(|| key(a).cmp(&key(b)))
        };
        search.candidates.sort_by(order);
        search
    }

    /// Those of the last base.
    fn add_candidates(&mut self, levels: &[usize]) {
        let base = self.bases.len() - 1;
        let Base { plan, ways } = &self.bases[base];
        let states = self.states(plan);
        let outlooks: Vec<Outlook<'_>> =
            ways.iter().map(|way| Outlook::of(&plan.graph, way, &states, self.profile)).collect();
        let starts = starts(&plan.graph, &self.profile.prices);
        let half_bytes = self.middle_bytes(plan).div_ceil(2);
        for &level in levels {
            let at_readers = self.windows(plan, level);
            let resident_bytes = self.resident_bytes(level);
            for ahead_bytes in AHEAD.map(|halves| halves * half_bytes) {
                let mut windows = at_readers.clone();
                begin_ahead(&starts, &mut windows, &self.profile.prices, ahead_bytes);
                end_behind(&starts, &mut windows, &self.profile.prices, ahead_bytes);
                for (way, outlook) in outlooks.iter().enumerate() {
                    let (seconds, bytes) = (outlook.seconds(&windows), resident_bytes + outlook.alive_bytes(&windows));
                    self.candidates.push(Candidate { base, way, level, ahead_bytes, seconds, bytes });
                }
            }
        }
    }

    fn names(&self, level: usize) -> HashSet<String> {
        names_of(self.units[..level].iter())
    }

    fn windows(&self, plan: &Plan, level: usize) -> Vec<Window> {
        let names = self.names(level);
        windows(&plan.graph, &|weight| names.contains(&plan.graph.value(weight).name))
    }

    /// The states of a plan that are off memory at every level.
    fn states(&self, plan: &Plan) -> Vec<ValueId> {
        self.units.first().map(|forced| states_named(&plan.graph, &names_of([forced].into_iter()))).unwrap_or_default()
    }

    /// The bytes of the unit in the middle, by size: in most models those of a block. Where states come, those of the stay in
    /// the middle if that is more.
    fn middle_bytes(&self, plan: &Plan) -> usize {
        let of_units = middle(self.units.iter().map(|unit| unit.bytes));
        match self.states(plan).is_empty() {
            true => of_units,
            false => of_units.max(middle(self.windows(plan, 1).iter().map(|window| window.bytes))),
        }
    }

    fn resident_bytes(&self, level: usize) -> usize {
        self.weight_bytes - self.units[..level].iter().map(|unit| unit.bytes).sum::<usize>()
    }

    fn file_bytes(&self, level: usize) -> usize {
        self.units[..level].iter().map(|unit| unit.file_bytes).sum()
    }

    /// Of the candidates, the least that one has in a file; 0 if there are none.
    pub(super) fn least_file_bytes(&self) -> usize {
        self.candidates.iter().map(|candidate| self.file_bytes(candidate.level)).min().unwrap_or(0)
    }

    /// What a candidate comes to, if its arena and resident weights take at most `limit_bytes`.
    fn placed(&self, candidate: &Candidate, limit_bytes: usize) -> Option<Plan> {
        let most_bytes = limit_bytes.checked_sub(self.resident_bytes(candidate.level))?;
        let Base { plan, ways } = &self.bases[candidate.base];
        let mut windows = self.windows(plan, candidate.level);
        let starts = starts(&plan.graph, &self.profile.prices);
        begin_ahead(&starts, &mut windows, &self.profile.prices, candidate.ahead_bytes);
        end_behind(&starts, &mut windows, &self.profile.prices, candidate.ahead_bytes);
        let states = self.states(plan);
        let inserted = Inserted { base: plan, stays: &ways[candidate.way], windows: &windows, states: &states };
        inserted.plan_within(self.profile, most_bytes)
    }

    /// The fastest plan that meets the limits: arena and resident weights together, and weights off memory.
    pub(super) fn fastest(&self, limit_bytes: usize, file_bytes: usize) -> Option<(Plan, WeightsOffMemory)> {
        let (mut seconds, mut found) = (f64::INFINITY, None);
        for candidate in &self.candidates {
            if candidate.seconds >= seconds {
                break;
            }
            if candidate.bytes > limit_bytes || self.file_bytes(candidate.level) > file_bytes {
                continue;
            }
            let Some(plan) = self.placed(candidate, limit_bytes) else { continue };
            let takes = plan.step_seconds(&self.profile.prices);
            if takes < seconds {
                let weights = self.names(candidate.level);
                (seconds, found) =
                    (takes, Some((plan, WeightsOffMemory { weights, ahead_bytes: candidate.ahead_bytes })));
            }
        }
        found
    }

    /// The least that arena and resident weights of any of them take together.
    pub(super) fn smallest_bytes(&self, file_bytes: usize) -> usize {
        let mut by_bytes: Vec<&Candidate> = self.candidates.iter().collect();
        by_bytes.sort_by_key(|candidate| candidate.bytes);
        let mut smallest = usize::MAX;
        for candidate in by_bytes {
            if candidate.bytes >= smallest {
                break;
            }
            if self.file_bytes(candidate.level) > file_bytes {
                continue;
            }
            if let Some(plan) = self.placed(candidate, smallest - 1) {
                smallest = self.resident_bytes(candidate.level) + plan.arena_bytes;
            }
        }
        smallest
    }
}

/// The one in the middle, by size.
fn middle(bytes: impl Iterator<Item = usize>) -> usize {
    let mut bytes: Vec<usize> = bytes.collect();
    bytes.sort_unstable();
    bytes.get(bytes.len() / 2).copied().unwrap_or(0)
}

/// Numbers of units that are tried: all from `least` on, or evenly chosen ones with the first and the last.
fn levels(least: usize, count: usize) -> Vec<usize> {
    let steps = (count - least).clamp(1, LEVELS);
    let mut levels: Vec<usize> = (0..=steps).map(|step| least + step * (count - least) / steps).collect();
    levels.retain(|&level| level > 0);
    levels.dedup();
    levels
}

/// What a plan offloads itself; if nothing, also half of what it keeps and all of it, in time with the kernels, and all of it
/// at once.
fn ways_to_offload(plan: &Plan, profile: &DeviceProfile) -> Vec<Vec<(OffloadCandidate, Residence)>> {
    let own = stays_of(plan);
    if !own.is_empty() || profile.prices.spill.is_none() {
        return vec![own];
    }
    let all = candidates(plan, LEAST_BYTES);
    if all.is_empty() {
        return vec![own];
    }
    let some = |count: usize, pace| residences(&plan.graph, &all[..count], &profile.prices, pace);
    let overlapped = [all.len() / 2, all.len()].map(|count| some(count, Pace::Overlapped));
    [own].into_iter().chain(overlapped).chain([some(all.len(), Pace::Waiting)]).collect()
}
