//! A plan as a CUDA graph: every step captured once, to be launched as one.
//!
//! Nothing that the host decides lies between two steps of a plan, and its addresses and arguments never change, so every plan can be
//! one. Invariant: a graph has the launches, copies and waits of the plan in the plan's order, so it gives the same bits.

use super::program::Program;
use super::streams::Streams;
use crate::driver::{Driver, DriverError, GraphId};
use remat_plan::Queue;

/// Captures a program whose kernels are loaded.
pub(super) fn capture(driver: &dyn Driver, streams: &Streams, program: &Program) -> Result<GraphId, DriverError> {
    let compute = streams.of(Queue::Compute);
    driver.begin_capture(compute)?;
    let put = put(driver, streams, program);
    // What was begun is ended, whatever became of it.
    let graph = driver.end_capture(compute);
    put.and(graph)
}

/// Puts all steps, with copies between a mark that they wait for and one that is waited for.
fn put(driver: &dyn Driver, streams: &Streams, program: &Program) -> Result<(), DriverError> {
    let [compute, copies] = [Queue::Compute, Queue::Copy].map(|queue| streams.of(queue));
    let copied = program.steps.iter().any(|step| step.queue != Queue::Compute);
    if copied {
        driver.record(compute, streams.fork)?;
        driver.wait(copies, streams.fork)?;
    }
    program.steps.iter().try_for_each(|step| streams.begin(driver, step))?;
    if copied {
        driver.record(copies, streams.join)?;
        driver.wait(compute, streams.join)?;
    }
    Ok(())
}
