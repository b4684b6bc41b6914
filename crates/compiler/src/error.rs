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
    /// The checker refused the plan: a defect of the compiler, never of the input.
    #[error("internal error, please report it: the compiled plan is wrong: {0}")]
    Plan(#[from] CheckError),
}
