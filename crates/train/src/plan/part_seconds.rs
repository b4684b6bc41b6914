//! What an update takes, part by part: its micro-steps, what follows each of them, and the optimizer.

use remat_plan::{Plan, Prices};

/// Seconds of the parts of an update.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct PartSeconds {
    /// A micro-step.
    pub(crate) micro: f64,
    /// What follows each, where micro-batches are added up apart; of ranks, each round of them.
    pub(crate) accumulation: f64,
    /// The optimizer.
    pub(crate) update: f64,
}

impl PartSeconds {
    /// Predicted, by these plans.
    pub(crate) fn of(micro: &Plan, update: &Plan, accumulation: Option<&Plan>, prices: &Prices) -> PartSeconds {
        let seconds = |plan: &Plan| plan.step_seconds(prices);
        PartSeconds { micro: seconds(micro), accumulation: accumulation.map_or(0.0, seconds), update: seconds(update) }
    }

    /// Of an update of so many micro-batches, or rounds of them.
    pub(crate) fn of_update(self, micro_batches: usize) -> f64 {
        micro_batches as f64 * (self.micro + self.accumulation) + self.update
    }
}
