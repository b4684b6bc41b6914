//! What can go wrong in a run. Invariant: each message names the flag, key, file or step, and the remedy.

use std::path::PathBuf;

/// What kind of end an error is; the command line turns it into an exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The run failed for a reason outside of what was asked for: a full disk, a defect.
    Failed,
    /// Bad input or usage.
    Input,
    /// Not enough memory for what was asked for.
    DoesNotFit,
    /// A guard on the numbers stopped the run.
    Numeric,
}

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)] // The messages are the documentation of the variants and their fields.
pub enum TrainError {
    #[error("--{key} is missing: give {example}, or `{key} = …` in a --config file")]
    MissingKey { key: &'static str, example: &'static str },

    #[error("--{key} {value}: must be {rule}")]
    OutOfRange { key: &'static str, value: String, rule: &'static str },

    #[error("{place}: unknown key `{key}`{nearest}")]
    UnknownKey { place: String, key: String, nearest: String },

    #[error("{place}: {key}: {problem}")]
    BadValue { place: String, key: String, problem: String },

    #[error("{place}: not TOML: {problem}")]
    NotToml { place: String, problem: String },

    #[error("{}: cannot {what}: {source}", path.display())]
    Io { path: PathBuf, what: &'static str, source: std::io::Error },

    #[error(
        "--out {}: exists and is not empty; choose another folder, go on with --resume, or replace that run with --force",
        path.display()
    )]
    OutExists { path: PathBuf },

    #[error("--out {}: is a file; choose a folder", path.display())]
    OutIsFile { path: PathBuf },

    #[error("--out {}: cannot be written: {source}; choose a folder you may write to", path.display())]
    OutUnwritable { path: PathBuf, source: std::io::Error },

    #[error("{}: holds no complete checkpoint-N to resume from{notes}; start again with --force", out.display())]
    NothingToResume { out: PathBuf, notes: String },

    #[error(
        "--{key} {given}: the saved run has {saved}, and changing it would change the result; resume without it, or \
         start a new run in another --out"
    )]
    ResumeChanged { key: String, saved: String, given: String },

    #[error("{}: {problem}", path.display())]
    BadSave { path: PathBuf, problem: String },
}

impl TrainError {
    /// What kind of end this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TrainError::MissingKey { .. }
            | TrainError::OutOfRange { .. }
            | TrainError::UnknownKey { .. }
            | TrainError::BadValue { .. }
            | TrainError::NotToml { .. }
            | TrainError::OutExists { .. }
            | TrainError::OutIsFile { .. }
            | TrainError::OutUnwritable { .. }
            | TrainError::NothingToResume { .. }
            | TrainError::ResumeChanged { .. }
            | TrainError::BadSave { .. } => ErrorKind::Input,
            TrainError::Io { what, .. } if *what == "read" => ErrorKind::Input,
            TrainError::Io { .. } => ErrorKind::Failed,
        }
    }
}
