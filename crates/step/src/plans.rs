//! The plans of a step, ready to be loaded together.
//!
//! Invariant: they share every source by name, and one arena. Look next at `loaded`.

use crate::training_step::{TOKEN_INPUTS, token_input};
use remat_plan::Plan;

/// A plan of forward and backward, and what its inputs with an element per token are called.
#[derive(Debug, Clone)]
pub struct MicroPlan {
    /// The plan.
    pub plan: Plan,
    /// Names of the inputs, in the order of `TOKEN_INPUTS`.
    pub(crate) tokens: [String; TOKEN_INPUTS.len()],
}

impl MicroPlan {
    /// Of the longest sequences, or of a model without tokens.
    pub fn longest(plan: Plan) -> Self {
        MicroPlan { plan, tokens: TOKEN_INPUTS.map(|name| token_input(name, None)) }
    }

    /// Of a graph that [`crate::TrainingStep::shorter`] made.
    pub fn shorter(plan: Plan, seq_len: usize) -> Self {
        MicroPlan { plan, tokens: TOKEN_INPUTS.map(|name| token_input(name, Some(seq_len))) }
    }
}

/// What is loaded together.
#[derive(Debug, Clone)]
pub struct StepPlans {
    /// Forward and backward: by length, or under several policies side by side.
    pub micros: Vec<MicroPlan>,
    /// The update.
    pub update: Option<Plan>,
    /// What follows each micro-step, where micro-batches are added up apart.
    pub accumulation: Option<Plan>,
    /// The loss of held-out rows.
    pub evaluation: Option<Plan>,
    /// Other plans without backward, such as those of generation.
    pub forwards: Vec<Plan>,
}

impl StepPlans {
    /// Nothing: a device that holds as good as no memory.
    pub fn none() -> Self {
        StepPlans { micros: Vec::new(), update: None, accumulation: None, evaluation: None, forwards: Vec::new() }
    }

    /// Of one micro-step.
    pub fn of(micro: Plan, update: Option<Plan>) -> Self {
        StepPlans { micros: vec![MicroPlan::longest(micro)], update, ..StepPlans::none() }
    }
}
