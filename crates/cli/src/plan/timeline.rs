//! `plan --timeline`: the arena over the time of a micro-step, as an SVG picture of its own.
//!
//! Invariant: rectangles do not overlap unless an op works in place, as the checker has proved of the plan.

use crate::report::timeline;
use crate::units::bytes;
use remat_train::RunPlan;

/// The picture.
pub(super) fn svg(plan: &RunPlan) -> String {
    let title = format!(
        "{} · {} × {} tokens · checkpointing {} · arena {}",
        plan.model,
        plan.shape.batch,
        plan.shape.seq_len,
        plan.config.checkpointing,
        bytes(plan.micro.arena_bytes as u64)
    );
    timeline(plan).file(&title)
}
