//! What can go wrong with a step. Invariant: each message names the value, the setting or the file.

use remat_compiler::CompileError;
use remat_ir::IrError;
use remat_plan::DeviceError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum StepError {
    /// A graph that cannot be differentiated or planned.
    #[error(transparent)]
    Compile(#[from] CompileError),
    /// A device that cannot load or run a plan.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// An update that cannot be built.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// A step without anything to train.
    #[error("nothing is trainable: choose at least one parameter or adapter")]
    NothingTrained,
    /// An optimizer whose states are not cut into shards.
    #[error(
        "several ranks train together with adamw or adamw8bit, not with {optimizer}: choose one of them, or train alone"
    )]
    NotSharded {
        /// Its name.
        optimizer: &'static str,
    },
    /// A value that differs from what it should be.
    #[error("{0}")]
    Differs(String),
}
