//! When each step of a plan begins and ends, by the prices.
//!
//! Method: a step begins when its queue is free and what it waits for is done. Invariant: without copies this is the plain
//! sum over the steps. Look next at `price` for what a step takes.

use crate::{Action, Plan, Prices, Queue, SpillPrices};
use remat_ir::Storage;

/// Seconds from the start of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Span {
    /// When a step begins.
    pub start: f64,
    /// When it is done.
    pub end: f64,
}

impl Plan {
    /// Predicted times of all steps, in their order.
    pub fn timetable(&self, prices: &Prices) -> Vec<Span> {
        let spill = prices.spill.unwrap_or_else(SpillPrices::nominal);
        let mut free = [0.0f64; Queue::ALL.len()];
        let mut spans: Vec<Span> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            let seconds = match step.action {
                Action::Compute(op) => {
                    let (read, written) = self.streamed_bytes(step);
                    let moved = read as f64 / prices.weight_reads() + written as f64 / spill.write_bytes_per_second;
                    prices.seconds(&self.graph, self.graph.node(op)) + moved
                }
                Action::Evict { value, .. } => self.graph.ty(value).bytes() as f64 / spill.write_bytes_per_second,
                Action::Fetch { value, rows, .. } if self.graph.value(value).storage != Storage::Arena => {
                    self.fetch_bytes(value, rows) as f64 / prices.weight_reads()
                }
                Action::Fetch { value, .. } => self.graph.ty(value).bytes() as f64 / spill.read_bytes_per_second,
            };
            let awaited = step.waits.iter().map(|wait| spans[wait.index()].end);
            let start = awaited.fold(free[step.queue.index()], f64::max);
            let end = start + seconds;
            free[step.queue.index()] = end;
            spans.push(Span { start, end });
        }
        spans
    }

    /// Predicted seconds of one run, on all queues.
    pub fn step_seconds(&self, prices: &Prices) -> f64 {
        self.timetable(prices).iter().map(|span| span.end).fold(0.0, f64::max)
    }
}
