//! What of a policy is kept: at once where that needs no search, for `budget` and `auto` from the catalogue.
//!
//! Invariants: a larger budget or cap never gives a slower plan: the catalogue depends on neither, and is walked from the
//! fastest plan on until one fits. A plan that is returned was compiled, and its own bytes were compared with the limit.
//! Look next at `answer` for what is made of the plans that are found here.

use crate::catalogue::Entry;
use crate::place::{Stays, place_within};
use crate::solve::Point;
use crate::tile::Tiling;
use crate::verified::verified;
use crate::{CompileError, Kept, Problem, place, rematerialise};
use remat_ir::Graph;
use remat_plan::{DeviceProfile, Plan, Policy};
use std::sync::Arc;

/// Steps between the plans in tiles that `auto` tries before it bisects.
const GRID: usize = 8;

/// What plans of one simplified graph are made with.
pub(crate) struct Selection<'a> {
    pub(crate) problem: &'a Problem<'a>,
    pub source: &'a Graph,
    pub policy: &'a Policy,
    pub profile: &'a DeviceProfile,
    /// How rows are cut in all plans; `None` where a limit decides whether they are.
    tiling: Option<&'a Tiling>,
}

impl<'a> Selection<'a> {
    pub(crate) fn new(problem: &'a Problem<'a>, policy: &'a Policy) -> Self {
        Selection { problem, source: &problem.source, policy, profile: problem.profile, tiling: None }
    }

    /// The same on a device that differs in the prices of copies alone.
    pub(crate) fn on<'b>(&self, profile: &'b DeviceProfile) -> Selection<'b>
    where
        'a: 'b,
    {
        Selection { profile, ..*self }
    }

    pub(crate) fn with_policy<'b>(&self, policy: &'b Policy) -> Selection<'b>
    where
        'a: 'b,
    {
        Selection { policy, ..*self }
    }

    /// As [`Selection::plan_or_smallest`], without offload and with every value in one piece.
    pub(crate) fn whole(&self, arena_cap_bytes: Option<usize>) -> Result<Plan, CompileError> {
        match Kept::of(self.source, self.policy) {
            Some(kept) => Ok(self.laid_out(&kept)),
            None => self.searched(arena_cap_bytes),
        }
    }

    pub(crate) fn seconds(&self, plan: &Plan) -> f64 {
        plan.step_seconds(&self.profile.prices)
    }

    /// The same with rows cut; `None` if there is nothing to cut.
    pub(crate) fn in_tiles(&self) -> Option<Selection<'a>> {
        self.problem.tiling().map(|tiling| Selection { tiling: Some(tiling), ..*self })
    }

    /// The fastest plan of a searched policy within the limits, among those that cut as `tiling` says.
    pub(crate) fn searched(&self, arena_cap_bytes: Option<usize>) -> Result<Plan, CompileError> {
        let budget = match self.policy {
            Policy::Budget(bytes) => Some(*bytes),
            _ => None,
        };
        if budget.is_none() {
            let everything = Kept::everything(self.source);
            let Some(cap) = arena_cap_bytes else { return Ok(self.laid_out(&everything)) };
            let kept_bytes = everything.footprint(self.source, &self.profile.prices).activation_bytes;
            let fastest = (kept_bytes.saturating_sub(self.freed_bytes()) <= cap).then(|| self.laid_out(&everything));
            if let Some(plan) = fastest.filter(|plan| plan.arena_bytes <= cap) {
                return Ok(plan);
            }
        }
        match self.tiling {
            None => self.chosen_from_catalogue(budget, arena_cap_bytes),
            Some(_) => self.chosen_from_ladder(budget, arena_cap_bytes),
        }
    }

    /// The plan of a budget if its arena is within the cap; else the fastest that is; else the smallest.
    fn chosen_from_catalogue(&self, budget: Option<usize>, cap: Option<usize>) -> Result<Plan, CompileError> {
        let (catalogue, placing) = (self.problem.catalogue(), self.problem.placing());
        let fits = |entry: &&Entry| cap.is_none_or(|cap| placing.arena_bytes(entry) <= cap);
        if let Some(budget_bytes) = budget {
            let Some(entry) = catalogue.within(budget_bytes, placing) else {
                let smallest_bytes = catalogue.least_kept_bytes();
                return Err(CompileError::BudgetDoesNotFit { budget_bytes, smallest_bytes });
            };
            if fits(&entry) {
                return Ok(self.plan_of(&entry.point));
            }
        }
        let (budget, cap) = (budget.unwrap_or(usize::MAX), cap.unwrap_or(usize::MAX));
        let fitting = catalogue.fitting(budget, cap, placing).find(fits);
        let entry =
            fitting.or_else(|| catalogue.smallest(budget, placing)).expect("what keeps everything keeps no more");
        Ok(self.plan_of(&entry.point))
    }

    pub(crate) fn freed_bytes(&self) -> usize {
        self.tiling.map_or(0, Tiling::freed_bytes)
    }

    /// What a plan of the point keeps.
    pub(crate) fn kept_bytes(&self, point: &Point) -> usize {
        point.footprint.activation_bytes.saturating_sub(self.freed_bytes())
    }

    pub(crate) fn steady_points(&self) -> &'a [Point] {
        &self.problem.points().by_region
    }

    pub(crate) fn plan_of(&self, point: &Point) -> Plan {
        self.laid_out(&point.kept(self.source))
    }

    /// Where rows are cut: from the fewest boundaries to everything kept. With a cap no more are held in backward than
    /// kept, so that the arena grows along it.
    fn ladder(&self, capped: bool) -> Vec<&'a Point> {
        let points = self.problem.points();
        let levels = if capped { &points.lean_levels } else { &points.levels };
        let mut ladder: Vec<&Point> = levels.iter().chain(&points.by_region).collect();
        ladder.sort_by_key(|point| point.footprint.activation_bytes);
        ladder
    }

    /// The part of it that keeps no more than a budget.
    fn ladder_within(&self, budget: Option<usize>, capped: bool) -> Result<Vec<&'a Point>, CompileError> {
        let budget_bytes = budget.unwrap_or(usize::MAX);
        let keeps = |point: &&'a Point| self.kept_bytes(point) <= budget_bytes;
        let mut ladder = self.ladder(capped);
        if !ladder.iter().any(&keeps) {
            // What keeps least of all is not among those for caps.
            ladder = self.ladder(false);
        }
        let within = ladder.partition_point(keeps);
        if within == 0 {
            let smallest_bytes = ladder.first().map_or(0, |point| self.kept_bytes(point));
            return Err(CompileError::BudgetDoesNotFit { budget_bytes, smallest_bytes });
        }
        ladder.truncate(within);
        Ok(ladder)
    }

    /// The fastest plan in tiles under both limits; the smallest found if none meets the cap.
    fn chosen_from_ladder(&self, budget: Option<usize>, cap: Option<usize>) -> Result<Plan, CompileError> {
        let points = self.ladder_within(budget, cap.is_some())?;
        Ok(match cap {
            Some(cap) => self.fitting(&points, cap),
            None => self.plan_of(points[points.len() - 1]),
        })
    }

    /// The smallest arena of the plans in tiles that keep no more than a budget, if it takes fewer than `below_bytes`.
    pub(crate) fn smallest_in_tiles(&self, budget: Option<usize>, below_bytes: usize) -> Option<usize> {
        let points = self.ladder_within(budget, true).ok()?;
        let smallest = self.smallest_below(grid(points.len()).into_iter().map(|index| points[index]), below_bytes);
        smallest.map(|plan| plan.arena_bytes)
    }

    /// The fastest plan found with an arena of at most `cap`, or the smallest found. Compiles some plans of a fixed grid
    /// from the fastest down to the first that fits, then bisects between that and the one before: O(log points) plans. A
    /// plan whose kept bytes alone exceed the cap cannot fit and is not compiled, unless it can be the smallest.
    fn fitting(&self, points: &[&Point], cap: usize) -> Plan {
        let (possible, others): (Vec<usize>, Vec<usize>) =
            grid(points.len()).into_iter().partition(|&index| self.kept_bytes(points[index]) <= cap);
        let mut high = others.first().copied().unwrap_or(points.len());
        let mut smallest: Option<Plan> = None;
        for &index in possible.iter().rev() {
            let least = smallest.as_ref().map_or(usize::MAX, |smallest| smallest.arena_bytes);
            if let Some(plan) = self.plan_within(points[index], least.max(cap)) {
                if plan.arena_bytes <= cap {
                    return self.bisected(points, cap, (index, high), plan);
                }
                // Of equal ones the one that keeps less.
                smallest = Some(plan);
            }
            high = index;
        }
        let least = smallest.as_ref().map_or(usize::MAX, |smallest| smallest.arena_bytes);
        let other = self.smallest_below(others.iter().map(|&index| points[index]), least);
        other.or(smallest).expect("the first of the grid is compiled")
    }

    /// The smallest plan of points that keep more and more, if its arena takes fewer than `below_bytes`. Only the first ones
    /// can be that.
    fn smallest_below<'b>(&self, points: impl Iterator<Item = &'b Point>, mut below_bytes: usize) -> Option<Plan> {
        let mut smallest = None;
        for point in points {
            if self.kept_bytes(point) < below_bytes
                && let Some(plan) = self.plan_within(point, below_bytes - 1)
            {
                below_bytes = plan.arena_bytes;
                smallest = Some(plan);
            }
        }
        smallest
    }

    /// The plan of a point, if its arena is at most `cap`.
    fn fitting_plan(&self, point: &Point, cap: usize) -> Option<Plan> {
        (self.kept_bytes(point) <= cap).then(|| self.plan_within(point, cap)).flatten()
    }

    /// The plan of a point, if its arena is at most `most_bytes`.
    pub(crate) fn plan_within(&self, point: &Point, most_bytes: usize) -> Option<Plan> {
        place_within(self.written(&point.kept(self.source)), self.policy, self.profile, Stays::NONE, most_bytes)
    }

    /// Between `low`, which fits and is `found`, and `high`, which does not.
    fn bisected(&self, points: &[&Point], cap: usize, (mut low, mut high): (usize, usize), mut found: Plan) -> Plan {
        // A tenth of the search finds all but this part of a step's time.
        let worthwhile = found.step_seconds(&self.profile.prices) / 256.0;
        let seconds = |index: usize| points[index].footprint.recompute_seconds;
        while high - low > 1 && seconds(low) - seconds(high - 1) > worthwhile {
            let middle = low + (high - low) / 2;
            match self.fitting_plan(points[middle], cap) {
                Some(plan) => (low, found) = (middle, plan),
                None => high = middle,
            }
        }
        found
    }

    /// Rematerialised, cut into tiles if so chosen, scheduled and placed.
    pub(crate) fn laid_out(&self, kept: &Kept) -> Plan {
        place(self.written(kept), self.policy, self.profile)
    }

    /// The graph that is placed.
    fn written(&self, kept: &Kept) -> Arc<Graph> {
        match self.tiling {
            None => {
                let sequence = self.problem.outline().sequence(self.source, kept);
                if sequence.is_all_of(self.source) {
                    return self.problem.source.clone();
                }
                Arc::new(sequence.graph(self.source))
            }
            Some(tiling) => {
                let kept = tiling.kept(kept.clone());
                Arc::new(verified(tiling.scheduled(verified(rematerialise(self.source, &kept)), self.profile)))
            }
        }
    }
}

/// Which of so many plans are tried first, from the first to the last.
fn grid(count: usize) -> Vec<usize> {
    let last = count - 1;
    let steps = last.min(GRID);
    (0..=steps).map(|index| index * last / steps.max(1)).collect()
}
