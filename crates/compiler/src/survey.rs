//! What there is to know of the plans of a graph beside the one that is chosen.
//!
//! Invariant: every figure is that of a plan that can be written. Look next at `answer`, which finds them.

/// One plan of the time-memory frontier.
#[derive(Debug, Clone, PartialEq)]
pub struct FrontierPoint {
    /// Bytes alive between forward and backward.
    pub activation_bytes: usize,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Predicted seconds of one micro-step.
    pub step_seconds: f64,
    /// Of these, seconds of recomputation.
    pub recompute_seconds: f64,
}

/// What plans of a graph there are, around the one that is chosen.
#[derive(Debug, Clone, PartialEq)]
pub struct Survey {
    /// From the smallest plan to the fastest.
    pub frontier: Vec<FrontierPoint>,
    /// The smallest arena of any plan of the policy.
    pub smallest_arena_bytes: usize,
    /// The smallest feasible budget.
    pub smallest_activation_bytes: usize,
}
