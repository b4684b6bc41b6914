//! What can be wrong with a model folder, an adapter or a request. Invariant: names the tensor, module or key.

use remat_formats::{FormatsError, SettingName};
use remat_ir::IrError;
use remat_plan::DeviceError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// A file that cannot be read or written.
    #[error(transparent)]
    Formats(#[from] FormatsError),
    /// A graph that cannot be built.
    #[error(transparent)]
    Graph(#[from] IrError),
    /// A device that failed, or a source that it does not have.
    #[error(transparent)]
    Device(#[from] DeviceError),
    /// A tensor of the checkpoint that is missing or has another shape.
    #[error("{folder}: tensor \"{tensor}\" {problem}")]
    Tensor {
        /// The model or adapter folder.
        folder: String,
        /// The tensor's name in the file.
        tensor: String,
        /// What is wrong, and the remedy.
        problem: String,
    },
    /// A target that names no module.
    #[error(
        "{name} {given}: matches no linear module; this model has {available}; give some of these names, all-linear, or a pattern that matches a whole path, as in .*q_proj", name = SettingName(key))]
    NoTarget {
        /// The setting.
        key: &'static str,
        /// What was asked for.
        given: String,
        /// What there is.
        available: String,
    },
    /// A regular expression that does not parse.
    #[error("{name} {given}: not a valid regular expression: {problem}", name = SettingName(key))]
    BadRegex {
        /// The setting.
        key: &'static str,
        /// What was given.
        given: String,
        /// The parser's message.
        problem: String,
    },
    /// Targets of which none is left.
    #[error("{name} {targets}: all that they match is excluded, by name or by layer", name = SettingName("targets"))]
    AllExcluded {
        /// What was asked for.
        targets: String,
    },
    /// Layers of targets that are a pattern.
    #[error(
        "{layers} goes with names, as in PEFT, and {targets} {pattern} is a pattern; let the pattern name the layers", layers = SettingName("layers-to-transform"), targets = SettingName("targets"))]
    LayersOfPattern {
        /// The targets.
        pattern: String,
    },
    /// A setting out of range.
    #[error("{0}")]
    Setting(String),
    /// An adapter that does not fit the base model.
    #[error("{folder}: {problem}")]
    Adapter {
        /// The adapter's folder.
        folder: String,
        /// What does not fit, and the remedy.
        problem: String,
    },
}
