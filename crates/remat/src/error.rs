//! What can go wrong in the library. Invariant: every message says what, where and the remedy; nothing a caller passes
//! can panic.

use remat_compiler::CompileError;
use remat_ir::IrError;
use remat_model::ModelError;
use remat_plan::DeviceError;
use remat_step::StepError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Operands that do not fit an op.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// A step that cannot be compiled: nothing trainable, a budget that is too small.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A plan that cannot be loaded or run.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A model folder that cannot be read.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// A tensor of another graph.
    #[error("a tensor of another graph was given to {place}: use tensors made by this graph only")]
    ForeignTensor {
        /// The method.
        place: String,
    },
    /// A name given twice.
    #[error("{kind} \"{name}\" exists already: choose another name, or put it into a scope")]
    DuplicateName {
        /// Parameter or input.
        kind: &'static str,
        /// The name.
        name: String,
    },
    /// A name that would be one of what training keeps of a parameter: its gradient, its moments.
    #[error(
        "{kind} \"{name}\": training keeps \"{state}\" of the parameter \"{parameter}\", and that name would be given twice: \
         choose another, or put it into a scope"
    )]
    NameOfState {
        /// Parameter, weight or input.
        kind: &'static str,
        /// The name.
        name: String,
        /// The parameter whose state it is.
        parameter: String,
        /// The state's name.
        state: String,
    },
    /// A name that the step does not have.
    #[error("this step has no {kind} named \"{name}\"; it has {available}")]
    UnknownName {
        /// Parameter, input or output.
        kind: &'static str,
        /// What was asked for.
        name: String,
        /// What there is.
        available: String,
    },
    /// Elements that do not fit a tensor.
    #[error("{kind} \"{name}\" is {expected}; {given} was given")]
    WrongElements {
        /// Parameter or input.
        kind: &'static str,
        /// The name.
        name: String,
        /// Its type.
        expected: String,
        /// What was given instead.
        given: String,
    },
    /// A policy that contradicts itself or asks for what cannot be.
    #[error("checkpointing policy: {0}")]
    Policy(String),
    /// Prices that no machine has.
    #[error(
        "prices: a class of operations lacks its rate, or a rate is not between 1e5 and 1e19 a second; start from \
         Prices::nominal or a measured profile"
    )]
    BadPrices,
    /// A group of parameters that means nothing, or not one thing.
    #[error("parameter group \"{group}\": {problem}")]
    ParameterGroup {
        /// The group.
        group: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A file that a step cannot go on from.
    #[error("{}: {problem}", path.display())]
    SavedState {
        /// The file.
        path: std::path::PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// A file that cannot be read or written.
    #[error(transparent)]
    File(#[from] remat_formats::FormatsError),
    /// A call that the step was not compiled for.
    #[error("{0}")]
    NotCompiledFor(String),
    /// A value that differs from what it has to be.
    #[error("validation: {0}")]
    Validation(String),
}

impl From<StepError> for Error {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Compile(error) => Error::Compile(error),
            StepError::Device(error) => Error::Device(error),
            StepError::Graph(error) => Error::Graph(error),
            error @ (StepError::NothingTrained | StepError::NotSharded { .. }) => {
                Error::NotCompiledFor(error.to_string())
            }
            StepError::Differs(fault) => Error::Validation(fault),
        }
    }
}
