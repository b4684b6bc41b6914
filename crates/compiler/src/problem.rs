//! A graph to plan, and what its plans are chosen from.
//!
//! Invariant: the frontiers depend on the graph and the prices alone, never on a policy or a limit, so they are found once,
//! when a search first asks, and serve every plan of the graph. Look next at `select` for the search.

use crate::select::Selection;
use crate::solve::{Point, frontier};
use crate::tile::Tiling;
use crate::{CompileError, Survey, simplify, verified};
use remat_ir::{Graph, verify};
use remat_plan::{DeviceProfile, Plan, Policy, check};
use std::cell::OnceCell;

/// A graph, verified and simplified, of which several plans may be asked for.
pub struct Problem<'a> {
    pub(crate) source: Graph,
    pub(crate) profile: &'a DeviceProfile,
    /// Of plans that keep what regions hand on.
    steady: OnceCell<Vec<Point>>,
    /// Of all plans.
    all: OnceCell<Vec<Point>>,
    tiling: OnceCell<Option<Tiling>>,
}

impl<'a> Problem<'a> {
    /// Of a graph whose backward, if it has one, is already there.
    ///
    /// # Errors
    /// A malformed graph.
    pub fn new(graph: Graph, profile: &'a DeviceProfile) -> Result<Self, CompileError> {
        verify(&graph)?;
        let source = verified(simplify(graph));
        Ok(Problem { source, profile, steady: OnceCell::new(), all: OnceCell::new(), tiling: OnceCell::new() })
    }

    /// The graph, simplified.
    pub fn graph(&self) -> &Graph {
        &self.source
    }

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

    /// The frontier of up to `count` plans, and the smallest limits that can be met: by `policy` for the arena.
    ///
    /// # Errors
    /// As [`crate::compile`].
    pub fn survey(&self, policy: &Policy, count: usize) -> Result<Survey, CompileError> {
        Selection::new(self, policy).survey(count)
    }

    /// The plan, if the checker accepts it.
    pub(crate) fn checked(&self, plan: Plan) -> Result<Plan, CompileError> {
        check(&plan, &self.source)?;
        Ok(plan)
    }

    /// See [`frontier`].
    pub(crate) fn points(&self, keep_boundaries: bool) -> &[Point] {
        let points = if keep_boundaries { &self.steady } else { &self.all };
        points.get_or_init(|| frontier(&self.source, &self.profile.prices, keep_boundaries))
    }

    /// How rows are cut where a limit asks for it; `None` if there is nothing to cut.
    pub(crate) fn tiling(&self) -> Option<&Tiling> {
        self.tiling.get_or_init(|| Tiling::of(&self.source, self.profile)).as_ref()
    }
}
