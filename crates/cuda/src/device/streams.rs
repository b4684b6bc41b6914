//! The streams of a device, and how a step is put on them.
//!
//! Invariant: compute and copies have a stream each, ordered by the waits of the plan alone.

use super::program::{ResolvedStep, Task};
use crate::driver::{Driver, DriverError, EventId, StreamId};
use remat_plan::Queue;

/// Streams, and marks before and behind the copies of a graph.
#[derive(Debug, Clone, Copy)]
pub(super) struct Streams {
    compute: StreamId,
    copies: StreamId,
    pub(super) fork: EventId,
    pub(super) join: EventId,
}

impl Streams {
    pub(super) fn new(driver: &dyn Driver) -> Result<Self, DriverError> {
        let (compute, copies) = (driver.stream()?, driver.stream()?);
        Ok(Streams { compute, copies, fork: driver.event()?, join: driver.event()? })
    }

    /// Where a queue's steps go.
    pub(super) fn of(&self, queue: Queue) -> StreamId {
        if queue == Queue::Compute { self.compute } else { self.copies }
    }

    /// Puts one step on its stream.
    pub(super) fn begin(&self, driver: &dyn Driver, step: &ResolvedStep) -> Result<(), DriverError> {
        let stream = self.of(step.queue);
        step.waits.iter().try_for_each(|&event| driver.wait(stream, event))?;
        match &step.task {
            Task::Kernels(works) => works.iter().try_for_each(|work| driver.launch(stream, work))?,
            Task::Out { from, to, offset, bytes } => driver.copy_out(stream, *from, *to, *offset, *bytes)?,
            Task::In { from, offset, to, bytes } => driver.copy_in(stream, *from, *offset, *to, *bytes)?,
        }
        step.signal.map_or(Ok(()), |event| driver.record(stream, event))
    }
}
