//! A graph to plan, and what its plans are chosen from.
//!
//! Invariant: what plans there are depends on the graph and the prices alone, never on a policy or a limit, so it is found once,
//! when a search first asks, and serves every plan of the graph. Look next at `select` for the search, and at `answer` for what
//! may be asked.

use crate::catalogue::{Catalogue, Placing};
use crate::collectives::on_their_queue;
use crate::outline::Outline;
use crate::solve::Points;
use crate::tile::Tiling;
use crate::verified::verified;
use crate::{CompileError, Kept, simplify};
use remat_ir::{Graph, verify};
use remat_plan::{DeviceProfile, Plan, check};
use std::sync::{Arc, OnceLock};

/// A graph, verified and simplified, of which several plans may be asked for.
pub struct Problem<'a> {
    pub(crate) source: Arc<Graph>,
    pub(crate) profile: &'a DeviceProfile,
    outline: OnceLock<Outline>,
    points: OnceLock<Points>,
    catalogue: OnceLock<Catalogue>,
    tiling: OnceLock<Option<Tiling>>,
    full: OnceLock<(usize, usize)>,
}

impl<'a> Problem<'a> {
    /// Of a graph whose backward, if it has one, is already there.
    ///
    /// # Errors
    /// A malformed graph.
    pub fn new(graph: Graph, profile: &'a DeviceProfile) -> Result<Self, CompileError> {
        verify(&graph)?;
        let source = Arc::new(verified(simplify(graph)));
        let (outline, points) = (OnceLock::new(), OnceLock::new());
        Ok(Problem {
            source,
            profile,
            outline,
            points,
            catalogue: OnceLock::new(),
            tiling: OnceLock::new(),
            full: OnceLock::new(),
        })
    }

    /// The graph, simplified.
    pub fn graph(&self) -> &Graph {
        &self.source
    }

    /// The plan with collectives on their queue, if the checker accepts it.
    pub(crate) fn checked(&self, plan: Plan) -> Result<Plan, CompileError> {
        let plan = on_their_queue(plan);
        check(&plan, &self.source)?;
        Ok(plan)
    }

    /// What is asked of the graph for every choice.
    pub(crate) fn outline(&self) -> &Outline {
        self.outline.get_or_init(|| Outline::of(&self.source, self.profile))
    }

    /// The choices that the solver found.
    pub(crate) fn points(&self) -> &Points {
        self.points.get_or_init(|| Points::of(&self.source, self.outline()))
    }

    /// The same with what they take in memory.
    pub(crate) fn catalogue(&self) -> &Catalogue {
        self.catalogue.get_or_init(|| Catalogue::of(&self.source, self.outline(), self.points()))
    }

    /// What its plans are placed with.
    pub(crate) fn placing(&self) -> Placing<'_> {
        Placing { graph: &self.source, outline: self.outline() }
    }

    /// What a boundary per block keeps, and its arena.
    pub(crate) fn full(&self) -> (usize, usize) {
        *self.full.get_or_init(|| {
            let figures = self.outline().figures(&self.source, &Kept::segments(&self.source, 1));
            (figures.activation_bytes, figures.arena_bytes)
        })
    }

    /// How rows are cut where a limit asks for it; `None` if there is nothing to cut.
    pub(crate) fn tiling(&self) -> Option<&Tiling> {
        self.tiling.get_or_init(|| Tiling::of(&self.source, self.profile)).as_ref()
    }
}
