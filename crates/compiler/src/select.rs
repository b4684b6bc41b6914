//! Policies to plans: what needs no search at once, `budget` and `auto` from the solver's frontier.
//!
//! Invariants: a larger budget or cap never gives a slower plan: the frontier depends on neither, and the bisection on the
//! arena asks about the same plans in the same order until two caps answer differently. A plan that is returned was
//! compiled, and its own bytes were compared with the limit.

use crate::solve::Point;
use crate::tile::Tiling;
use crate::{CompileError, Kept, Problem, Survey, place, rematerialise, schedule, verified};
use remat_ir::Graph;
use remat_plan::{DeviceProfile, Plan, Policy};

/// Steps between the plans that `auto` tries before it bisects.
const GRID: usize = 8;

/// One plan of the time-memory frontier.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontierPoint {
    /// Bytes alive between forward and backward.
    pub activation_bytes: usize,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Predicted seconds of one micro-step.
    pub step_seconds: f64,
    /// Of these, seconds of recomputation.
    pub recompute_seconds: f64,
}

/// What plans of one simplified graph are made with.
pub(crate) struct Selection<'a> {
    problem: &'a Problem<'a>,
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

    pub(crate) fn with_policy<'b>(&self, policy: &'b Policy) -> Selection<'b>
    where
        'a: 'b,
    {
        Selection { policy, ..*self }
    }

    /// The plan of the policy, with an arena of at most `arena_cap_bytes` if that is given.
    pub(crate) fn plan(&self, arena_cap_bytes: Option<usize>) -> Result<Plan, CompileError> {
        let plan = self.plan_or_smallest(arena_cap_bytes)?;
        match arena_cap_bytes {
            Some(cap_bytes) if plan.arena_bytes > cap_bytes => {
                Err(CompileError::ArenaDoesNotFit { cap_bytes, smallest_bytes: plan.arena_bytes })
            }
            _ => Ok(plan),
        }
    }

    /// As [`Selection::plan`]; the smallest plan found where none meets the cap.
    pub(crate) fn plan_or_smallest(&self, arena_cap_bytes: Option<usize>) -> Result<Plan, CompileError> {
        let whole = self.whole(arena_cap_bytes);
        let found = match self.profile.prices.spill {
            Some(_) => self.with_offload(whole, arena_cap_bytes),
            None => whole,
        };
        match Kept::of(self.source, self.policy) {
            Some(_) => found,
            None => self.or_in_tiles(found, arena_cap_bytes),
        }
    }

    /// As [`Selection::plan_or_smallest`], without offload and with every value in one piece.
    pub(crate) fn whole(&self, arena_cap_bytes: Option<usize>) -> Result<Plan, CompileError> {
        match Kept::of(self.source, self.policy) {
            Some(kept) => Ok(self.laid_out(&kept)),
            None => self.searched(arena_cap_bytes),
        }
    }

    /// The plan that was found, or one with wide values in tiles where a limit asks for it: where nothing else meets it, or
    /// where the time for tiles is less than the recomputation they save. What offload makes fit stays as it is.
    fn or_in_tiles(&self, found: Result<Plan, CompileError>, cap: Option<usize>) -> Result<Plan, CompileError> {
        let fits = |plan: &Plan| cap.is_none_or(|cap| plan.arena_bytes <= cap);
        let offloads = self.profile.prices.spill.is_some();
        if found.as_ref().is_ok_and(|plan| fits(plan) && (offloads || plan.recomputed_steps().next().is_none())) {
            return found;
        }
        let Some(tiled) = self.in_tiles() else { return found };
        match (found, tiled.searched(cap)) {
            (Ok(found), Ok(tiled)) => Ok(self.better(found, tiled, cap.unwrap_or(usize::MAX))),
            (Err(refused), Err(other)) => {
                Err(if other.smallest_bytes() < refused.smallest_bytes() { other } else { refused })
            }
            (found, tiled) => found.or(tiled),
        }
    }

    /// The same with rows cut; `None` if there is nothing to cut.
    fn in_tiles(&self) -> Option<Selection<'a>> {
        self.problem.tiling().map(|tiling| Selection { tiling: Some(tiling), ..*self })
    }

    /// The fastest plan of a searched policy within the limits, among those that cut as `tiling` says.
    fn searched(&self, arena_cap_bytes: Option<usize>) -> Result<Plan, CompileError> {
        let budget = match self.policy {
            Policy::Budget(bytes) => Some(*bytes),
            _ => None,
        };
        match (budget, arena_cap_bytes) {
            (None, None) => Ok(self.laid_out(&Kept::everything(self.source))),
            (budget, None) => Ok(self.plan_of(self.within(self.points(false), budget)?.last())),
            (None, Some(cap)) => {
                let everything = Kept::everything(self.source);
                let kept_bytes = everything.footprint(self.source, &self.profile.prices).activation_bytes;
                let fastest =
                    (kept_bytes.saturating_sub(self.freed_bytes()) <= cap).then(|| self.laid_out(&everything));
                match fastest.filter(|plan| plan.arena_bytes <= cap) {
                    Some(plan) => Ok(plan),
                    None => self.within_arena(None, cap),
                }
            }
            (budget, Some(cap)) => self.within_arena(budget, cap),
        }
    }

    fn freed_bytes(&self) -> usize {
        self.tiling.map_or(0, Tiling::freed_bytes)
    }

    /// What a plan of the point keeps.
    fn kept_bytes(&self, point: &Point) -> usize {
        point.footprint.activation_bytes.saturating_sub(self.freed_bytes())
    }

    pub(crate) fn points(&self, keep_boundaries: bool) -> &'a [Point] {
        self.problem.points(keep_boundaries)
    }

    /// The points that keep no more than the budget; at least one.
    fn within<'p>(&self, points: &'p [Point], budget: Option<usize>) -> Result<&'p [Point], CompileError> {
        let Some(budget_bytes) = budget else { return Ok(points) };
        match points.partition_point(|point| self.kept_bytes(point) <= budget_bytes) {
            0 => {
                let smallest_bytes = points.first().map_or(0, |point| self.kept_bytes(point));
                Err(CompileError::BudgetDoesNotFit { budget_bytes, smallest_bytes })
            }
            count => Ok(&points[..count]),
        }
    }

    pub(crate) fn plan_of(&self, point: Option<&Point>) -> Plan {
        self.laid_out(&point.expect("a frontier has points").kept(self.source))
    }

    /// The points within a budget to look among: plans that keep what regions hand on (their arena shrinks with the kept
    /// bytes), and all. Where rows are cut the former are enough, as there is little else in a region then.
    fn frontiers(&self, budget: Option<usize>) -> Result<Vec<&[Point]>, CompileError> {
        let mut found = Vec::new();
        let mut refusal = None;
        for keep_boundaries in [true, false] {
            match self.within(self.points(keep_boundaries), budget) {
                Ok(points) => found.push(points),
                Err(refused) => refusal = Some(refused),
            }
            if self.tiling.is_some() && !found.is_empty() {
                break;
            }
        }
        refusal.filter(|_| found.is_empty()).map_or(Ok(found), Err)
    }

    /// The fastest plan found under both limits; the smallest found if none meets the cap.
    fn within_arena(&self, budget: Option<usize>, cap: usize) -> Result<Plan, CompileError> {
        let found = self.frontiers(budget)?.into_iter().map(|points| self.fitting(points, cap));
        Ok(found.reduce(|a, b| self.better(a, b, cap)).expect("there is a frontier"))
    }

    /// The faster of two plans that fit, the one that fits, or the smaller; the first if they are equal.
    fn better(&self, a: Plan, b: Plan, cap: usize) -> Plan {
        let seconds = |plan: &Plan| plan.step_seconds(&self.profile.prices);
        let is_better = match (a.arena_bytes <= cap, b.arena_bytes <= cap) {
            (true, true) => seconds(&b) < seconds(&a),
            (false, false) => b.arena_bytes < a.arena_bytes,
            (_, fits) => fits,
        };
        if is_better { b } else { a }
    }

    /// The fastest plan found with an arena of at most `cap`, or the smallest found. Compiles some plans of a fixed grid
    /// from the fastest down to the first that fits, then bisects between that and the one before: O(log points) plans. A
    /// plan whose kept bytes alone exceed the cap cannot fit and is not compiled.
    fn fitting(&self, points: &[Point], cap: usize) -> Plan {
        let last = points.len() - 1;
        let steps = last.min(GRID);
        let grid: Vec<usize> = (0..=steps).map(|index| index * last / steps.max(1)).collect();
        let mut high = last + 1;
        for &index in grid.iter().rev() {
            if let Some(plan) = self.fitting_plan(&points[index], cap) {
                return self.bisected(points, cap, (index, high), plan);
            }
            high = index;
        }
        // Kept bytes rise along the frontier, so only its beginning can hold the smallest arena.
        let mut smallest = self.plan_of(points.first());
        for &index in &grid[1..] {
            if self.kept_bytes(&points[index]) < smallest.arena_bytes {
                let plan = self.plan_of(points.get(index));
                smallest = if plan.arena_bytes < smallest.arena_bytes { plan } else { smallest };
            }
        }
        smallest
    }

    /// The plan of a point, if its arena is at most `cap`.
    fn fitting_plan(&self, point: &Point, cap: usize) -> Option<Plan> {
        let possible = self.kept_bytes(point) <= cap;
        possible.then(|| self.plan_of(Some(point))).filter(|plan| plan.arena_bytes <= cap)
    }

    /// Between `low`, which fits and is `found`, and `high`, which does not.
    fn bisected(&self, points: &[Point], cap: usize, (mut low, mut high): (usize, usize), mut found: Plan) -> Plan {
        // A tenth of the search finds all but this part of a step's time where rows are cut; whole, the optimum is wanted.
        let worthwhile = self.tiling.map_or(0.0, |_| found.step_seconds(&self.profile.prices) / 256.0);
        let seconds = |index: usize| points[index].footprint.recompute_seconds;
        while high - low > 1 && seconds(low) - seconds(high - 1) > worthwhile {
            let middle = low + (high - low) / 2;
            match self.fitting_plan(&points[middle], cap) {
                Some(plan) => (low, found) = (middle, plan),
                None => high = middle,
            }
        }
        found
    }

    /// Rematerialised, cut into tiles if so chosen, scheduled and placed.
    pub(crate) fn laid_out(&self, kept: &Kept) -> Plan {
        let graph = match self.tiling {
            None => schedule(verified(rematerialise(self.source, kept))),
            Some(tiling) => {
                let kept = tiling.kept(kept.clone());
                tiling.scheduled(verified(rematerialise(self.source, &kept)), self.profile)
            }
        };
        let graph = verified(graph);
        place(graph, self.policy, self.profile)
    }

    /// Up to `count` plans from the smallest to the fastest, each with fewer seconds than the one before it.
    pub(crate) fn frontier(&self, count: usize) -> Vec<FrontierPoint> {
        self.rows(self.points(true), count)
    }

    /// The frontier, the smallest arena of the policy and the smallest budget.
    pub(crate) fn survey(&self, count: usize) -> Result<Survey, CompileError> {
        let (steady, all) = (self.points(true), self.points(false));
        let tiled = self.in_tiles();
        let manners: Vec<&Selection<'_>> = std::iter::once(self).chain(&tiled).collect();
        let least = |points: &[Point]| {
            let smallest = manners.iter().filter_map(|manner| points.first().map(|point| manner.kept_bytes(point)));
            smallest.min().unwrap_or(0)
        };
        let mut smallest_activation_bytes = least(steady).min(least(all));
        let frontier = self.rows(steady, count);
        let smallest_arena_bytes = match Kept::of(self.source, self.policy) {
            Some(kept) => self.laid_out(&kept).arena_bytes,
            None => {
                let budget = match self.policy {
                    Policy::Budget(bytes) => Some((*bytes).max(smallest_activation_bytes)),
                    _ => None,
                };
                let smallest = |manner: &&Selection<'_>| {
                    let found = manner.frontiers(budget).unwrap_or_default();
                    found.into_iter().map(|points| manner.fitting(points, 0).arena_bytes).min()
                };
                manners.iter().filter_map(smallest).min().unwrap_or(0)
            }
        };
        if self.profile.prices.spill.is_none() {
            return Ok(Survey { frontier, smallest_arena_bytes, smallest_activation_bytes });
        }
        if let Err(CompileError::BudgetDoesNotFit { smallest_bytes, .. }) =
            self.with_policy(&Policy::Budget(0)).plan_or_smallest(None)
        {
            smallest_activation_bytes = smallest_activation_bytes.min(smallest_bytes);
        }
        let smallest = match self.policy {
            Policy::Budget(bytes) => Policy::Budget((*bytes).max(smallest_activation_bytes)),
            policy => policy.clone(),
        };
        let plan = self.with_policy(&smallest).plan_or_smallest(Some(0))?;
        let smallest_arena_bytes = smallest_arena_bytes.min(plan.arena_bytes);
        Ok(Survey { frontier, smallest_arena_bytes, smallest_activation_bytes })
    }

    fn rows(&self, points: &[Point], count: usize) -> Vec<FrontierPoint> {
        let last = points.len() - 1;
        let count = count.clamp(1, points.len());
        let picked = (0..count).map(|index| if count == 1 { last } else { index * last / (count - 1) });
        let row = |index: usize| {
            let plan = self.plan_of(points.get(index));
            FrontierPoint {
                activation_bytes: plan.activation_bytes(),
                arena_bytes: plan.arena_bytes,
                step_seconds: plan.step_seconds(&self.profile.prices),
                recompute_seconds: plan.recompute_seconds(&self.profile.prices),
            }
        };
        picked.map(row).collect()
    }
}
