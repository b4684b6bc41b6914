//! What can be wrong with a graph. Invariant: every message names the op or value, the shapes, and what was expected.

/// An error of building, verifying, parsing or interpreting a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IrError {
    /// Operands that do not fit an op.
    #[error("{op} \"{node}\": {message}")]
    Operands {
        /// The op's name.
        op: String,
        /// The node's name.
        node: String,
        /// What does not match, with shapes.
        message: String,
    },
    /// An op that cannot be differentiated in the way asked for.
    #[error("{op} \"{node}\": no derivative: {message}")]
    NotDifferentiable {
        /// The op's name.
        op: String,
        /// The node's name.
        node: String,
        /// Why.
        message: String,
    },
    /// A structural fault of a graph.
    #[error("graph: {0}")]
    Invalid(String),
    /// A fault in the text form.
    #[error("line {line}: {message}")]
    Parse {
        /// Line number, from 1.
        line: usize,
        /// What is wrong there.
        message: String,
    },
    /// A source value that was not given, or given with another shape.
    #[error("value \"{name}\": {message}")]
    Source {
        /// The value's name.
        name: String,
        /// What is wrong.
        message: String,
    },
}
