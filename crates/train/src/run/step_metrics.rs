//! The numbers of one update, as they are logged, saved and shown.

use serde::{Deserialize, Serialize};

/// What is known of one update.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct StepMetrics {
    /// The update, counted from 1.
    pub step: u64,
    /// Epochs done, with the current one's part.
    pub epoch: f64,
    /// Negative log-likelihood per trained token of this update's batch, before the update.
    pub loss: f64,
    /// Negative log-likelihood per token of the held-out rows after this update, where it was evaluated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_loss: Option<f64>,
    /// The learning rate used.
    pub lr: f64,
    /// Norm of all gradients together, before clipping.
    pub grad_norm: f64,
    /// Tokens of this update's batch, padding not counted.
    pub tokens: u64,
    /// Tokens per second.
    pub tokens_per_s: f64,
    /// Seconds that the update took.
    pub step_seconds: f64,
    /// The process's peak resident memory so far.
    pub peak_bytes: u64,
    /// The peak that was planned.
    pub planned_peak_bytes: u64,
}
