//! What can go wrong in compiling. Invariant: a user's mistake is told apart from a defect of ours.

use remat_ir::IrError;
use remat_plan::CheckError;

/// An error of the compiler.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// The graph given is malformed, or an op in it has no derivative.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// A gradient was asked for that does not exist.
    #[error("the loss does not depend on \"{name}\": it cannot be trained; freeze it or use it before the loss")]
    NotReached {
        /// The value's name.
        name: String,
    },
    /// Nothing was asked to be differentiated.
    #[error("nothing is trainable: choose at least one parameter or adapter")]
    NothingTrainable,
    /// The loss is not a scalar.
    #[error("the loss \"{name}\" has shape {shape}; it must have shape [1]")]
    LossNotScalar {
        /// The value's name.
        name: String,
        /// Its shape.
        shape: String,
    },
    /// No plan keeps so few bytes from forward to backward.
    #[error(
        "a budget of {budget_bytes} bytes is below the smallest possible: this step keeps at least {smallest_bytes} bytes \
         from forward to backward; allow budget:{smallest_bytes}, or a shorter sequence or smaller batch"
    )]
    BudgetDoesNotFit {
        /// What was asked for.
        budget_bytes: usize,
        /// What would do.
        smallest_bytes: usize,
    },
    /// No plan found has so small an arena.
    #[error(
        "an arena of {cap_bytes} bytes is too small: this step needs at least {smallest_bytes} bytes under this policy; \
         allow more memory, or a shorter sequence or smaller batch, or try the policy auto"
    )]
    ArenaDoesNotFit {
        /// What was asked for.
        cap_bytes: usize,
        /// What would do.
        smallest_bytes: usize,
    },
    /// The checker refused the plan: a defect of the compiler, never of the input.
    #[error("internal error, please report it: the compiled plan is wrong: {0}")]
    Plan(#[from] CheckError),
}

impl CompileError {
    /// The smallest limit that would do, if the error is that one is too small.
    pub fn smallest_bytes(&self) -> Option<usize> {
        match self {
            CompileError::BudgetDoesNotFit { smallest_bytes, .. }
            | CompileError::ArenaDoesNotFit { smallest_bytes, .. } => Some(*smallest_bytes),
            CompileError::Graph(_)
            | CompileError::NotReached { .. }
            | CompileError::NothingTrainable
            | CompileError::LossNotScalar { .. }
            | CompileError::Plan(_) => None,
        }
    }
}
