//! The compiler of one training step, on one screen.
//!
//! ```text
//! Graph ──differentiate──▶ simplify ──rematerialise──▶ schedule ──place──▶ Plan ──check
//! ```
//!
//! Invariant: a pure function of graph, policy and device profile: no tensor bytes, no device, no clock, no I/O. In debug
//! builds the graph is verified between passes; the finished plan is always checked.

mod differentiate;
mod error;
mod place;
mod rebuild;
mod rematerialise;
mod schedule;
mod simplify;

pub use differentiate::{Gradient, Target, differentiate};
pub use error::CompileError;
pub use place::place;
pub use rematerialise::rematerialise;
pub use schedule::schedule;
pub use simplify::simplify;

use remat_ir::{Graph, verify};
use remat_plan::{DeviceProfile, Plan, Policy, check};

/// Compiles a graph whose backward, if it has one, is already there.
///
/// # Errors
/// A malformed graph; a plan that the checker refuses is a defect of the compiler and is reported as such.
pub fn compile(graph: Graph, policy: &Policy, profile: &DeviceProfile) -> Result<Plan, CompileError> {
    verify(&graph)?;
    let source = verified(simplify(graph));
    let graph = verified(rematerialise(&source, policy));
    let graph = verified(schedule(graph));
    let plan = place(graph, policy, profile);
    check(&plan, &source)?;
    Ok(plan)
}

/// The graph, verified in debug builds: a pass that breaks it is a defect.
fn verified(graph: Graph) -> Graph {
    if cfg!(debug_assertions)
        && let Err(error) = verify(&graph)
    {
        panic!("a compiler pass broke the graph: {error}\n{graph}");
    }
    graph
}
