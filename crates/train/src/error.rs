//! What can go wrong in a run. Invariant: each message names the setting, file or step, and the remedy; how a setting is
//! spelled is `SettingName`'s business.

use crate::plan::alternative::{Alternative, listed};
use crate::plan::limit_owner::LimitOwner;
use remat_comm::CommError;
use remat_compiler::CompileError;
use remat_data::DataError;
use remat_formats::FormatsError;
use remat_formats::SettingName;
use remat_hub::HubError;
use remat_model::ModelError;
use remat_plan::{DeviceError, MemoryDomain};
use remat_step::StepError;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};

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
    #[error("{name} is missing: give {example}, or `{key} = …` in a {config} file", name = SettingName(key), config = SettingName("config"))]
    MissingKey { key: &'static str, example: &'static str },

    #[error(
        "{} is missing: give {}, or `{} = …` in a {} file",
        SettingName(examples[0].0), listed_examples(examples), examples[0].0, SettingName("config")
    )]
    Unset { examples: &'static [(&'static str, &'static str)] },

    #[error(transparent)]
    Ranks(#[from] CommError),

    #[error(
        "ranks 0 and {rank} were not started alike: {what} is {first} on rank 0 and {other} on rank {rank}; start all of them \
         by one command, on the same files"
    )]
    RanksDiffer { what: String, rank: usize, first: String, other: String },

    #[error(
        "after update {update}, \"{tensor}\" of rank {rank} is not what {others} has: memory or a transfer has failed; look \
         at that rank's host, then run the same command again to go on from the last save"
    )]
    RanksDiverged { update: u64, tensor: String, rank: usize, others: &'static str },

    #[error("{name} {value}: must be {rule}", name = SettingName(key))]
    OutOfRange { key: &'static str, value: String, rule: &'static str },

    #[error("{name} {value}: must be at most {}, the largest count that config.toml can hold", i64::MAX, name = SettingName(key))]
    TooLarge { key: String, value: u64 },

    #[error("{place}: unknown key `{key}`{nearest}")]
    UnknownKey { place: String, key: String, nearest: String },

    #[error("{place}: {key}: {problem}")]
    BadValue { place: String, key: String, problem: String },

    #[error("{place}: not TOML: {problem}")]
    NotToml { place: String, problem: String },

    #[error("{}: cannot {what}: {source}", path.display())]
    Io { path: PathBuf, what: &'static str, source: std::io::Error },

    #[error(
        "{out_name} {}: exists and is not empty; choose another folder, go on with {resume}, or replace that run with {force}",
        path.display(),
        out_name = SettingName("out"), resume = SettingName("resume"), force = SettingName("force")
    )]
    OutExists { path: PathBuf },

    #[error("{out_name} {}: another run is writing to it; wait until it ends, or choose another folder", path.display(), out_name = SettingName("out"))]
    OutInUse { path: PathBuf },

    #[error("{out_name} {}: is a file; choose a folder", path.display(), out_name = SettingName("out"))]
    OutIsFile { path: PathBuf },

    #[error("{out_name} {}: cannot be written: {source}; choose a folder you may write to", path.display(), out_name = SettingName("out"))]
    OutUnwritable { path: PathBuf, source: std::io::Error },

    #[error("{}: holds no complete checkpoint-N to resume from{notes}; start again with {force}", out.display(), force = SettingName("force"))]
    NothingToResume { out: PathBuf, notes: String },

    #[error(
        "{name} {given}: the saved run has {saved}, and changing it would change the result; resume without it, or \
         start a new run in another {out_name}",
        name = SettingName(key), out_name = SettingName("out")
    )]
    ResumeChanged { key: String, saved: String, given: String },

    #[error("{}: {problem}", path.display())]
    BadSave { path: PathBuf, problem: String },

    #[error("{name}: {problem}", name = SettingName(key))]
    BadFlag { key: &'static str, problem: String },

    #[error(
        "this run needs {needed_bytes} bytes ({} MiB){} at least and {whose} {} MiB; {}{}",
        needed_bytes.div_ceil(1 << 20), of_domain(*domain), limit_bytes >> 20, more(*domain, *needed_bytes),
        listed(alternatives)
    )]
    DoesNotFit {
        domain: MemoryDomain,
        needed_bytes: usize,
        limit_bytes: usize,
        whose: LimitOwner,
        alternatives: Vec<Alternative>,
    },

    #[error(
        "{name} {value}: {what} alone take {} MiB, and {whose} {} MiB; choose a smaller number",
        needed_bytes >> 20, limit_bytes >> 20,
        name = SettingName(key)
    )]
    OutOfReach {
        key: &'static str,
        value: usize,
        what: &'static str,
        needed_bytes: usize,
        limit_bytes: usize,
        whose: LimitOwner,
    },

    #[error(
        "{checkpointing} budget:{budget_bytes} is below the smallest possible: this step keeps at least {smallest_bytes} \
         bytes from forward to backward; allow budget:{smallest_bytes}{}",
        listed(alternatives),
        checkpointing = SettingName("checkpointing")
    )]
    BudgetTooSmall { budget_bytes: usize, smallest_bytes: usize, alternatives: Vec<Alternative> },

    #[error(
        "this needs {} MiB and {} MiB are available; choose a smaller model, a shorter text or a smaller batch",
        needed_bytes.div_ceil(1 << 20), available_bytes >> 20
    )]
    ForwardDoesNotFit { needed_bytes: u64, available_bytes: u64 },

    #[error("token {number}: no logit is a number; the weights or the adapter are damaged")]
    NoToken { number: usize },

    #[error("the loss is {loss}; the weights or the adapter are damaged")]
    LossNotFinite { loss: f64 },

    #[error(
        "update {step}: the {what} is {value}; nothing of this update was saved. Lower {lr} or {clip}, lengthen {warmup}, \
         and look at the rows of this update; a run with {save_every} can go on from before it with {resume}",
        lr = SettingName("lr"), clip = SettingName("clip"), warmup = SettingName("warmup"), save_every = SettingName("save-every"), resume = SettingName("resume")
    )]
    NotFinite { step: u64, what: &'static str, value: f64 },

    #[error(
        "update {step}: the loss of {sample}{} is {value}, and that of others is a number: look at that row; nothing of \
         this update was saved. {}",
        if *others == 0 { String::new() } else { format!(" and of {others} more") },
        go_on_from(last_save.as_deref())
    )]
    BadSample { step: u64, sample: String, others: usize, value: f64, last_save: Option<PathBuf> },

    #[error(
        "update 1: the loss of every sample is {value} before anything was trained, so it is not {lr}'s doing: the weights \
         or the adapter may be damaged, or too large for {precision}",
        lr = SettingName("lr"), precision = SettingName("precision")
    )]
    NeverANumber { value: f64 },

    #[error(
        "update {step}: \"{name}\" holds {value} at element {index}, before the update was made; nothing of it was saved. \
         Lower {lr}, lengthen {warmup}, and look at the rows of this update; {}",
        go_on_from(last_save.as_deref()),
        lr = SettingName("lr"), warmup = SettingName("warmup")
    )]
    BadGradient { step: u64, name: String, index: usize, value: f32, last_save: Option<PathBuf> },

    #[error(
        "update {step}: \"{name}\" holds {value} after it, at element {index}; nothing of this update was saved. Lower {lr} \
         or {clip}, lengthen {warmup}, and look at the rows of this update; {}",
        go_on_from(last_save.as_deref()),
        lr = SettingName("lr"), clip = SettingName("clip"), warmup = SettingName("warmup")
    )]
    NotANumber { step: u64, name: String, index: usize, value: f32, last_save: Option<PathBuf> },

    #[error(
        "update {step}: the gradient of \"{name}\" is zero{}, so it would never learn; the base weights on its way to \
         the loss may be zero, or its {targets} may not reach the loss",
        if *others == 0 { String::new() } else { format!(", and that of {others} more") },
        targets = SettingName("targets")
    )]
    NoGradient { step: u64, name: String, others: usize },

    #[error(
        "update {step}: {validate}: {problem}; nothing of this update was saved. Please report it, with record.json",
        validate = SettingName("validate")
    )]
    Invalid { step: u64, problem: String },

    #[error("cannot save: {source}; free some space or fix the folder, then go on with {resume}", resume = SettingName("resume"))]
    NotSaved { source: Box<dyn Error + Send + Sync> },

    #[error(
        "{problem}; the result in {} is complete, only its {what} is not written: free some space; nothing has to be \
         trained again",
        out.display()
    )]
    NoRecord { out: PathBuf, what: &'static str, problem: String },

    #[error("{name} {source}", name = SettingName(key))]
    Hub { key: &'static str, source: HubError },

    #[error(transparent)]
    Data(#[from] DataError),

    #[error(transparent)]
    Formats(#[from] FormatsError),

    #[error(transparent)]
    Model(#[from] ModelError),

    #[error(transparent)]
    Compile(#[from] CompileError),

    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl TrainError {
    /// Of a save or result that could not be written.
    pub(crate) fn not_saved(error: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        TrainError::NotSaved { source: error.into() }
    }

    /// Whether a disk or a quota was full.
    pub(crate) fn is_disk_full(&self) -> bool {
        let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
        let mut error: Option<&(dyn Error + 'static)> = Some(self);
        while let Some(found) = error {
            if found.downcast_ref::<io::Error>().is_some_and(|found| full.contains(&found.kind())) {
                return true;
            }
            error = found.source();
        }
        false
    }

    /// What kind of end this is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            TrainError::Data(DataError::NotWritten { .. }) => ErrorKind::Failed,
            TrainError::MissingKey { .. }
            | TrainError::Unset { .. }
            | TrainError::OutOfRange { .. }
            | TrainError::TooLarge { .. }
            | TrainError::UnknownKey { .. }
            | TrainError::BadValue { .. }
            | TrainError::NotToml { .. }
            | TrainError::OutExists { .. }
            | TrainError::OutInUse { .. }
            | TrainError::OutIsFile { .. }
            | TrainError::OutUnwritable { .. }
            | TrainError::NothingToResume { .. }
            | TrainError::ResumeChanged { .. }
            | TrainError::BadSave { .. }
            | TrainError::BadFlag { .. }
            | TrainError::RanksDiffer { .. }
            | TrainError::Ranks(CommError::WithoutEngine { .. } | CommError::OtherEngine { .. })
            | TrainError::Data(_) => ErrorKind::Input,
            TrainError::Formats(error) | TrainError::Model(ModelError::Formats(error)) => match error {
                FormatsError::NotWritten { .. } => ErrorKind::Failed,
                FormatsError::NotANumber { .. } => ErrorKind::Numeric,
                _ => ErrorKind::Input,
            },
            TrainError::Model(ModelError::Device(error)) | TrainError::Device(error) => kind_of(error),
            TrainError::Model(_) => ErrorKind::Input,
            TrainError::Ranks(_) => ErrorKind::Failed,
            TrainError::Hub { source, .. } if source.is_input() => ErrorKind::Input,
            TrainError::Hub { .. } => ErrorKind::Failed,
            TrainError::Compile(CompileError::Plan(_)) => ErrorKind::Failed,
            TrainError::Compile(error) if error.smallest_bytes().is_some() => ErrorKind::DoesNotFit,
            TrainError::Compile(_) => ErrorKind::Input,
            TrainError::DoesNotFit { .. }
            | TrainError::OutOfReach { .. }
            | TrainError::BudgetTooSmall { .. }
            | TrainError::ForwardDoesNotFit { .. } => ErrorKind::DoesNotFit,
            TrainError::NoToken { .. } | TrainError::LossNotFinite { .. } | TrainError::RanksDiverged { .. } => {
                ErrorKind::Numeric
            }
            TrainError::NotFinite { .. }
            | TrainError::NotANumber { .. }
            | TrainError::BadSample { .. }
            | TrainError::NeverANumber { .. }
            | TrainError::BadGradient { .. }
            | TrainError::NoGradient { .. }
            | TrainError::Invalid { .. } => ErrorKind::Numeric,
            TrainError::NotSaved { .. } | TrainError::NoRecord { .. } => ErrorKind::Failed,
            TrainError::Io { what, .. } if *what == "read" => ErrorKind::Input,
            TrainError::Io { .. } => ErrorKind::Failed,
        }
    }
}

/// Settings with what may be given, one of which is wanted.
fn listed_examples(examples: &[(&str, &str)]) -> String {
    let given = |(key, value): &(&str, &str)| format!("{} {value}", SettingName(key));
    examples.iter().map(given).collect::<Vec<_>>().join(" or ")
}

/// Which memory a refusal is about, where it is not the process's.
fn of_domain(domain: MemoryDomain) -> &'static str {
    match domain {
        MemoryDomain::Host => "",
        MemoryDomain::Device => " of the device's memory",
        MemoryDomain::Disk => " of the disk",
    }
}

/// How there would be more of it.
fn more(domain: MemoryDomain, needed_bytes: usize) -> String {
    match domain {
        MemoryDomain::Host => format!("allow {} {}MiB", SettingName("memory"), needed_bytes.div_ceil(1 << 20)),
        MemoryDomain::Device => "choose a smaller batch, sequence or rank, or a device with more".to_string(),
        MemoryDomain::Disk => "choose a folder on a disk with more room".to_string(),
    }
}

/// How a run goes on after a refusal of its numbers.
fn go_on_from(last_save: Option<&Path>) -> String {
    let resume = SettingName("resume");
    match last_save {
        Some(save) => format!("the last good save is {}: go on from it with {resume}", save.display()),
        None => format!("a run with {} can go on from before it with {resume}", SettingName("save-every")),
    }
}

fn kind_of(error: &DeviceError) -> ErrorKind {
    match error {
        DeviceError::OutOfMemory { .. } | DeviceError::NoSpillSpace { .. } => ErrorKind::DoesNotFit,
        DeviceError::BadInput { .. } | DeviceError::BadSpillFolder { .. } | DeviceError::Absent { .. } => {
            ErrorKind::Input
        }
        DeviceError::Spill { .. } | DeviceError::Threads { .. } | DeviceError::CopyThread { .. } => ErrorKind::Failed,
        DeviceError::Failed { .. }
        | DeviceError::Ranks(_)
        | DeviceError::Unsupported { .. }
        | DeviceError::OtherRules { .. }
        | DeviceError::SourceMismatch { .. }
        | DeviceError::UnknownSource { .. } => ErrorKind::Failed,
    }
}

impl From<StepError> for TrainError {
    fn from(error: StepError) -> Self {
        match error {
            StepError::Compile(error) => TrainError::Compile(error),
            StepError::Device(DeviceError::Ranks(error)) => TrainError::Ranks(error),
            StepError::Device(error) => TrainError::Device(error),
            StepError::Graph(error) => TrainError::Model(ModelError::Graph(error)),
            error @ (StepError::NothingTrained | StepError::NotSharded { .. }) => {
                TrainError::Model(ModelError::Setting(error.to_string()))
            }
            StepError::Differs(problem) => TrainError::Invalid { step: 0, problem },
        }
    }
}
