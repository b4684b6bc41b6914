//! Policies to plans: the plan that is found among whole ones, with offload where there is a tier for it, in tiles where a limit
//! asks for them; and what may be asked of a [`Problem`].
//!
//! Invariant: a plan that leaves the compiler was accepted by the checker. Look next at `select` for how a plan is found.

use crate::select::Selection;
use crate::{CompileError, FrontierPoint, Kept, Problem, Survey};
use remat_plan::{DeviceProfile, Plan, Policy, Prices, SpillPrices};

/// How many plans in tiles that take too much memory are passed over for what keeps less; of the known models 17 at most.
const TRIES: usize = 64;

impl Problem<'_> {
    /// The plan of a policy, with an arena of at most `arena_cap_bytes` if that is given.
    ///
    /// # Errors
    /// As [`crate::compile_within`].
    pub fn plan(&self, policy: &Policy, arena_cap_bytes: Option<usize>) -> Result<Plan, CompileError> {
        self.checked(Selection::new(self, policy).plan(arena_cap_bytes)?)
    }

    /// As [`Problem::plan`], but where no plan of the policy meets the cap, the smallest one that was found.
    ///
    /// # Errors
    /// As [`crate::compile`].
    pub fn plan_or_smallest(&self, policy: &Policy, arena_cap_bytes: usize) -> Result<Plan, CompileError> {
        self.checked(Selection::new(self, policy).plan_or_smallest(Some(arena_cap_bytes))?)
    }

    /// The smallest plan of the policy where kept values may also leave the arena, at these prices.
    ///
    /// # Errors
    /// As [`crate::compile`].
    pub fn smallest_offloading(&self, policy: &Policy, spill: SpillPrices) -> Result<Plan, CompileError> {
        let prices = Prices { spill: Some(spill), ..self.profile.prices.clone() };
        let profile = DeviceProfile { prices, ..self.profile.clone() };
        self.checked(Selection::new(self, policy).on(&profile).plan_or_smallest(Some(0))?)
    }

    /// The frontier of up to `count` plans, and the smallest limits that can be met: by `policy` for the arena.
    ///
    /// # Errors
    /// As [`crate::compile`].
    pub fn survey(&self, policy: &Policy, count: usize) -> Result<Survey, CompileError> {
        Selection::new(self, policy).survey(count)
    }
}

impl<'a> Selection<'a> {
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
    /// What keeps less than a boundary per block takes no more memory than that either: of what the budget and smaller ones
    /// get it is the first that does not, so that a smaller budget never gets a faster plan.
    fn within_in_tiles(&self, budget_bytes: usize, found: &Plan, cap: Option<usize>) -> Option<Plan> {
        if self.freed_bytes() == 0 {
            return None;
        }
        let points = self.problem.points();
        let by_region_bytes = points.by_region.first().map_or(0, |point| point.footprint.activation_bytes);
        let (full_bytes, full_arena_bytes) = self.problem.full();
        let mut to_keep = budget_bytes;
        for _ in 0..TRIES {
            let entry =
                self.problem.catalogue().within(to_keep.saturating_add(self.freed_bytes()), self.problem.placing())?;
            let kept_bytes = self.kept_bytes(&entry.point);
            let most_bytes = if kept_bytes < full_bytes { full_arena_bytes } else { usize::MAX };
            if let Some(plan) = self.plan_within(&entry.point, most_bytes) {
                let fits = cap.is_none_or(|cap| plan.arena_bytes <= cap) && plan.activation_bytes() <= budget_bytes;
                let is_better = budget_bytes < by_region_bytes || self.seconds(&plan) < self.seconds(found);
                return (fits && is_better).then_some(plan);
            }
            to_keep = kept_bytes.checked_sub(1)?;
        }
        None
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

    /// Up to `count` plans from the smallest to the fastest, each with fewer seconds than the one before it.
    pub(crate) fn frontier(&self, count: usize) -> Vec<FrontierPoint> {
        let entries = self.problem.catalogue().frontier(self.problem.placing());
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
                let placing = self.problem.placing();
                let whole = self.problem.catalogue().smallest(budget.unwrap_or(usize::MAX), placing);
                let whole = whole.map(|entry| placing.arena_bytes(entry));
                let below_bytes = whole.unwrap_or(usize::MAX);
                let tiled = tiled.and_then(|tiled| tiled.smallest_in_tiles(budget, below_bytes));
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
