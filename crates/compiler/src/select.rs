//! Policies to plans: what needs no search at once, `budget` and `auto` from the catalogue.
//!
//! Invariants: a larger budget or cap never gives a slower plan: the catalogue depends on neither, and is walked from the
//! fastest plan on until one fits. A plan that is returned was compiled, and its own bytes were compared with the limit.

use crate::solve::Point;
use crate::tile::Tiling;
use crate::{CompileError, Kept, Problem, Survey, place, rematerialise, verified};
use remat_ir::Graph;
use remat_plan::{DeviceProfile, Plan, Policy};

/// Steps between the plans in tiles that `auto` tries before it bisects.
const GRID: usize = 8;

/// How often a plan in tiles that takes too much memory is tried again with less to keep.
const TRIES: usize = 4;

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
        if let (Policy::Budget(budget_bytes), Ok(plan)) = (self.policy, &found)
            && fits(plan)
        {
            return tiled.within_in_tiles(*budget_bytes, plan, cap).map_or(found, Ok);
        }
        match (found, tiled.searched(cap)) {
            (Ok(found), Ok(tiled)) => Ok(self.better(found, tiled, cap.unwrap_or(usize::MAX))),
            (Err(refused), Err(other)) => {
                Err(if other.smallest_bytes() < refused.smallest_bytes() { other } else { refused })
            }
            (found, tiled) => found.or(tiled),
        }
    }

    /// The plan in tiles for a budget in place of the one that was found, where that is below what a boundary per block
    /// takes, or slower: cutting rows frees bytes of the last block, and those buy boundaries and what else blocks keep.
    /// What keeps less than a boundary per block takes no more memory than that either: it gets less to keep by what it
    /// takes too much.
    fn within_in_tiles(&self, budget_bytes: usize, found: &Plan, cap: Option<usize>) -> Option<Plan> {
        if self.freed_bytes() == 0 {
            return None;
        }
        let points = self.problem.points();
        let steady_bytes = points.steady.first().map_or(0, |point| point.footprint.activation_bytes);
        let mut to_keep = budget_bytes;
        for _ in 0..TRIES {
            let entry = self.problem.catalogue().within(to_keep.saturating_add(self.freed_bytes()))?;
            let plan = self.plan_of(&entry.point);
            let kept_bytes = plan.activation_bytes();
            let (full_bytes, full_arena_bytes) = self.problem.full();
            let excess = plan.arena_bytes.saturating_sub(full_arena_bytes);
            if kept_bytes >= full_bytes || excess == 0 {
                let fits = cap.is_none_or(|cap| plan.arena_bytes <= cap) && kept_bytes <= budget_bytes;
                let is_better = budget_bytes < steady_bytes || self.seconds(&plan) < self.seconds(found);
                return (fits && is_better).then_some(plan);
            }
            to_keep = kept_bytes.min(to_keep).saturating_sub(excess);
        }
        None
    }

    fn seconds(&self, plan: &Plan) -> f64 {
        plan.step_seconds(&self.profile.prices)
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
        let (catalogue, outline) = (self.problem.catalogue(), self.problem.outline());
        let fits = |kept: &Kept| cap.is_none_or(|cap| outline.arena_bytes(self.source, kept) <= cap);
        if let Some(budget_bytes) = budget {
            let Some(entry) = catalogue.within(budget_bytes) else {
                let smallest_bytes = catalogue.least_kept_bytes();
                return Err(CompileError::BudgetDoesNotFit { budget_bytes, smallest_bytes });
            };
            let kept = entry.point.kept(self.source);
            if fits(&kept) {
                return Ok(self.laid_out(&kept));
            }
        }
        let (budget, cap) = (budget.unwrap_or(usize::MAX), cap.unwrap_or(usize::MAX));
        let mut fitting = catalogue.fitting(budget, cap).map(|entry| entry.point.kept(self.source));
        let kept = fitting.find(fits).unwrap_or_else(|| self.smallest(budget));
        Ok(self.laid_out(&kept))
    }

    /// The choice with the smallest arena of those that keep no more than a budget.
    fn smallest(&self, budget_bytes: usize) -> Kept {
        let mut smallest: Option<(usize, Kept)> = None;
        for entry in self.problem.catalogue().smallest(budget_bytes) {
            // They come by what is alive at once, and no arena is smaller than that.
            if smallest.as_ref().is_some_and(|(least, _)| entry.alive_bytes >= *least) {
                break;
            }
            let kept = entry.point.kept(self.source);
            let arena_bytes = self.problem.outline().arena_bytes(self.source, &kept);
            if smallest.as_ref().is_none_or(|(least, _)| arena_bytes < *least) {
                smallest = Some((arena_bytes, kept));
            }
        }
        smallest.map_or_else(|| Kept::everything(self.source), |(_, kept)| kept)
    }

    fn freed_bytes(&self) -> usize {
        self.tiling.map_or(0, Tiling::freed_bytes)
    }

    /// What a plan of the point keeps.
    fn kept_bytes(&self, point: &Point) -> usize {
        point.footprint.activation_bytes.saturating_sub(self.freed_bytes())
    }

    pub(crate) fn steady_points(&self) -> &'a [Point] {
        &self.problem.points().steady
    }

    pub(crate) fn plan_of(&self, point: &Point) -> Plan {
        self.laid_out(&point.kept(self.source))
    }

    /// Where rows are cut: from the fewest boundaries to everything kept. With a cap no more are held in backward than
    /// kept, so that the arena grows along it.
    fn ladder(&self, capped: bool) -> Vec<&'a Point> {
        let points = self.problem.points();
        let levels = if capped { &points.lean_levels } else { &points.levels };
        let mut ladder: Vec<&Point> = levels.iter().chain(&points.steady).collect();
        ladder.sort_by_key(|point| point.footprint.activation_bytes);
        ladder
    }

    /// The fastest plan in tiles under both limits; the smallest found if none meets the cap.
    fn chosen_from_ladder(&self, budget: Option<usize>, cap: Option<usize>) -> Result<Plan, CompileError> {
        let budget_bytes = budget.unwrap_or(usize::MAX);
        let keeps = |point: &&'a Point| self.kept_bytes(point) <= budget_bytes;
        let mut ladder = self.ladder(cap.is_some());
        if !ladder.iter().any(&keeps) {
            // What keeps least of all is not among those for caps.
            ladder = self.ladder(false);
        }
        let within = ladder.partition_point(keeps);
        match (&ladder[..within], cap) {
            ([], _) => {
                let smallest_bytes = ladder.first().map_or(0, |point| self.kept_bytes(point));
                Err(CompileError::BudgetDoesNotFit { budget_bytes, smallest_bytes })
            }
            ([.., last], None) => Ok(self.plan_of(last)),
            (points, Some(cap)) => Ok(self.fitting(points, cap)),
        }
    }

    /// The faster of two plans that fit, the one that fits, or the smaller; the first if they are equal.
    fn better(&self, a: Plan, b: Plan, cap: usize) -> Plan {
        let is_better = match (a.arena_bytes <= cap, b.arena_bytes <= cap) {
            (true, true) => self.seconds(&b) < self.seconds(&a),
            (false, false) => b.arena_bytes < a.arena_bytes,
            (_, fits) => fits,
        };
        if is_better { b } else { a }
    }

    /// The fastest plan found with an arena of at most `cap`, or the smallest found. Compiles some plans of a fixed grid
    /// from the fastest down to the first that fits, then bisects between that and the one before: O(log points) plans. A
    /// plan whose kept bytes alone exceed the cap cannot fit and is not compiled.
    fn fitting(&self, points: &[&Point], cap: usize) -> Plan {
        let last = points.len() - 1;
        let steps = last.min(GRID);
        let grid: Vec<usize> = (0..=steps).map(|index| index * last / steps.max(1)).collect();
        let mut high = last + 1;
        for &index in grid.iter().rev() {
            if let Some(plan) = self.fitting_plan(points[index], cap) {
                return self.bisected(points, cap, (index, high), plan);
            }
            high = index;
        }
        // Kept bytes rise along the frontier, so only its beginning can hold the smallest arena.
        let mut smallest = self.plan_of(points[0]);
        for &index in &grid[1..] {
            if self.kept_bytes(points[index]) < smallest.arena_bytes {
                let plan = self.plan_of(points[index]);
                smallest = if plan.arena_bytes < smallest.arena_bytes { plan } else { smallest };
            }
        }
        smallest
    }

    /// The plan of a point, if its arena is at most `cap`.
    fn fitting_plan(&self, point: &Point, cap: usize) -> Option<Plan> {
        let possible = self.kept_bytes(point) <= cap;
        possible.then(|| self.plan_of(point)).filter(|plan| plan.arena_bytes <= cap)
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
        let graph = match self.tiling {
            None => self.problem.outline().sequence(self.source, kept).graph(self.source),
            Some(tiling) => {
                let kept = tiling.kept(kept.clone());
                verified(tiling.scheduled(verified(rematerialise(self.source, &kept)), self.profile))
            }
        };
        place(graph, self.policy, self.profile)
    }

    /// Up to `count` plans from the smallest to the fastest, each with fewer seconds than the one before it.
    pub(crate) fn frontier(&self, count: usize) -> Vec<FrontierPoint> {
        let entries = self.problem.catalogue().frontier();
        let last = entries.len() - 1;
        let count = count.clamp(1, entries.len());
        let picked = (0..count).map(|index| if count == 1 { last } else { index * last / (count - 1) });
        let figures = |index: usize| {
            let kept = entries[index].point.kept(self.source);
            self.problem.outline().figures(self.source, &kept)
        };
        picked.map(figures).collect()
    }

    /// The frontier, the smallest arena of the policy and the smallest budget.
    pub(crate) fn survey(&self, count: usize) -> Result<Survey, CompileError> {
        let tiled = self.in_tiles();
        let freed_bytes = tiled.as_ref().map_or(0, Selection::freed_bytes);
        let mut smallest_activation_bytes = self.problem.catalogue().least_kept_bytes().saturating_sub(freed_bytes);
        let frontier = self.frontier(count);
        let smallest_arena_bytes = match Kept::of(self.source, self.policy) {
            Some(kept) => self.problem.outline().arena_bytes(self.source, &kept),
            None => {
                let budget = match self.policy {
                    Policy::Budget(bytes) => Some((*bytes).max(smallest_activation_bytes)),
                    _ => None,
                };
                let whole = (budget.unwrap_or(usize::MAX) >= self.problem.catalogue().least_kept_bytes()).then(|| {
                    self.problem.outline().arena_bytes(self.source, &self.smallest(budget.unwrap_or(usize::MAX)))
                });
                let tiled =
                    tiled.and_then(|tiled| tiled.chosen_from_ladder(budget, Some(0)).ok()).map(|plan| plan.arena_bytes);
                whole.into_iter().chain(tiled).min().unwrap_or(0)
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
}
