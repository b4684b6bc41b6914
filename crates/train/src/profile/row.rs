//! The figures of one policy, measured or refused.

use crate::error::{ErrorKind, TrainError};
use remat_plan::Policy;
use serde::Serialize;

/// One policy's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ProfileRow {
    /// The policy.
    pub policy: String,
    /// Peak of the process that the memory account says.
    pub planned_peak_bytes: u64,
    /// Peak resident memory of the process while this policy alone was loaded and run.
    pub measured_peak_bytes: Option<u64>,
    /// What lives from forward to backward.
    pub activation_bytes: usize,
    /// Bytes found in use in the arena between forward and backward, of one that was filled with a pattern before.
    pub measured_activation_bytes: Option<u64>,
    /// Logits and their gradients, a chunk of tokens at a time.
    pub head_bytes: usize,
    /// Frozen weights, trained parameters, gradients and moments.
    pub model_bytes: usize,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Steps of the plan.
    pub plan_steps: usize,
    /// Steps that repeat forward work.
    pub recomputed_steps: usize,
    /// Bytes that a step copies out of the arena, and back.
    pub offloaded_bytes: usize,
    /// What takes most of the memory, and the limit where it is why the plan recomputes.
    pub bound_by: String,
    /// Seconds of a micro-step and an update that the prices say.
    pub planned_step_seconds: f64,
    /// Median seconds of a micro-step and an update.
    pub step_seconds: f64,
    /// More FLOPs than without recomputing, in percent.
    pub extra_flops_percent: f64,
    /// More time than the first row, in percent.
    pub extra_percent: f64,
    /// Tokens per second.
    pub tokens_per_second: f64,
    /// A hash of every trained parameter after two updates: equal under all policies. As text it has no magnitude.
    #[serde(serialize_with = "hexadecimal")]
    pub trained_hash: u64,
}

fn hexadecimal<S: serde::Serializer>(hash: &u64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{hash:016x}"))
}

/// A policy that was not measured, since nothing it could plan fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RefusedPolicy {
    /// The policy.
    pub policy: String,
    /// What it needs, and what there is.
    pub reason: String,
    /// The smallest limit that would do, where that is known: of the process for `auto`, of the kept bytes for a budget.
    pub smallest_bytes: Option<usize>,
}

impl RefusedPolicy {
    /// If the error is that this policy does not fit; any other error as it is.
    pub(crate) fn of(policy: &Policy, error: TrainError) -> Result<Self, TrainError> {
        if error.kind() != ErrorKind::DoesNotFit {
            return Err(error);
        }
        let smallest_bytes = match &error {
            TrainError::DoesNotFit { needed_bytes, .. } => Some(*needed_bytes),
            TrainError::Compile(error) => error.smallest_bytes(),
            _ => None,
        };
        Ok(RefusedPolicy { policy: policy.to_string(), reason: error.to_string(), smallest_bytes })
    }
}
