//! Which slots are free after each step: what a device fills with [`POISON`](crate::POISON), so that a use after free, or of a
//! value never written, shows in the loss.
//!
//! Invariant: what is free after a step belongs to no value that a later step reads.

use crate::{Buffer, Plan, Slot};

/// For each step, the slots that are free once it has run.
pub fn freed(plan: &Plan) -> Vec<Vec<Slot>> {
    let mut freed: Vec<Vec<Slot>> = plan.steps.iter().map(|step| step.workspace.into_iter().collect()).collect();
    for buffer in plan.buffers.iter().filter(|buffer| !plan.graph.outputs.contains(&buffer.value)) {
        // A result that works in place took the slot over.
        let taken =
            |other: &Buffer| other.slot.overlaps(buffer.slot) && other.first <= buffer.last && buffer.last < other.last;
        let passed_on = plan.buffers.iter().any(taken);
        let to_output = plan.buffers.iter().any(|other| {
            plan.graph.outputs.contains(&other.value) && other.slot.overlaps(buffer.slot) && other.first <= buffer.last
        });
        if !passed_on && !to_output {
            freed[buffer.last.index()].push(buffer.slot);
        }
    }
    freed
}
