//! The graph that adds the gradients of one micro-batch to the sums of those before it.
//!
//! Invariant: every element is one addition per micro-batch, in the order of micro-batches, so that the sums are the same
//! wherever each gradient was computed. Look next at `update`, which reads and zeroes the sums.

use crate::StepError;
use remat_ir::ops::AddGradient;
use remat_ir::{Builder, Graph, Parameter, StateRole};

/// Adds each `<name>.grad` to its `<name>.grad_sum`, both f32 states of the parameter's shape, and zeroes it.
///
/// # Errors
/// No parameters.
pub fn accumulation_graph(parameters: &[Parameter]) -> Result<Graph, StepError> {
    if parameters.is_empty() {
        return Err(StepError::NothingTrained);
    }
    let mut b = Builder::new();
    for parameter in parameters {
        StateRole::ALL.iter().for_each(|role| b.reserve(&parameter.state(*role)));
    }
    for parameter in parameters {
        let mut state = |role| b.state_of(&parameter.name, parameter.kind, role, parameter.ty.clone());
        let operands = [state(StateRole::GradientSum), state(StateRole::Gradient)];
        b.op(&format!("add_gradient.{}", parameter.name), AddGradient, &operands)?;
    }
    Ok(b.finish())
}
