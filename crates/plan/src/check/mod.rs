//! The independent plan checker: re-derives everything a plan claims and refuses it at the first lie.
//!
//! What is proved of `(plan, source)`:
//! 0. *names*: values, nodes, buffers and steps that the plan speaks of exist, and what it says they last is a time.
//! 1. *equivalence*: `plan.graph` computes `source` and nothing else; a recomputed node, however
//!    often it is repeated, repeats a source node on congruent operands; the outputs are the same.
//! 2. *order*: every node runs in exactly one step; waits point backwards and at steps that signal; collectives run on the comm
//!    queue in the order of the source, which is the same on every rank, and nothing else does.
//! 3. *contents*: each operand's place holds that very value when the step runs: written before, not freed, not updated;
//!    and a state that lies in a tier is there in the end as the graph leaves it.
//! 4. *space*: slots have the size of their value or the workspace that the rules ask for, are aligned as these say and lie
//!    inside the arena; two that share a byte are never alive together,
//!    under every interleaving the queues allow. Sharing is allowed where an op declares that it works in place.
//! 5. *size*: `arena_bytes` is the highest end of a slot.
//!
//! This module imports `ir` and `plan` only: never the compiler.

mod contents;
mod equivalence;
mod error;
mod named;
mod order;
mod space;

pub use error::CheckError;

use crate::Plan;
use remat_ir::Graph;

/// Proves that `plan` computes `source` correctly.
///
/// # Errors
/// The first violated rule, with the steps, values and buffers concerned.
pub fn check(plan: &Plan, source: &Graph) -> Result<(), CheckError> {
    named::check(plan)?;
    equivalence::check(plan, source)?;
    let order = order::check(plan, source)?;
    contents::check(plan, &order)?;
    space::check(plan, &order)
}
