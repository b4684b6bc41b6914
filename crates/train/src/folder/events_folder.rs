//! Where the event file of TensorBoard goes: beside the log of the run, or into a folder of its own.
//!
//! Invariant: an event file is of one run. Another run's is replaced only where the run itself is, and what remat did not
//! write never.

use crate::folder::existing::Existing;
use crate::folder::file_names::EVENTS_FILE;
use crate::folder::ownership::own_files;
use crate::{TrainConfig, TrainError};
use remat_formats::SettingName;
use remat_formats::probe_folder;
use std::fs;
use std::path::Path;

/// The folder of these settings.
pub(crate) fn events_folder(config: &TrainConfig) -> &Path {
    config.tensorboard.as_deref().unwrap_or(&config.out)
}

/// Refuses a folder of one's own that cannot be written to, or has the curves of another run, without leaving a trace.
pub(crate) fn inspect(config: &TrainConfig, existing: Existing) -> Result<(), TrainError> {
    let Some(folder) = &config.tensorboard else { return Ok(()) };
    let refuse = |problem: String| Err(TrainError::BadFlag { key: "tensorboard", problem });
    if folder.exists() && !folder.is_dir() {
        return refuse(format!("{} is a file; choose a folder", folder.display()));
    }
    if let Err(error) = probe_folder(folder) {
        return refuse(format!("{}: {error}; choose a folder you may write to", folder.display()));
    }
    own_files(folder)?.refuse_foreign(&SettingName("tensorboard").to_string(), [EVENTS_FILE])?;
    if existing == Existing::Refuse && folder.join(EVENTS_FILE).exists() {
        return refuse(format!("{} has the curves of another run; choose a folder for each", folder.display()));
    }
    Ok(())
}

/// Makes the folder, if it is one of its own, and lists the file that is about to be written.
pub(crate) fn create(config: &TrainConfig) -> Result<(), TrainError> {
    let Some(folder) = &config.tensorboard else { return Ok(()) };
    let failed = |source| TrainError::Io { path: folder.clone(), what: "create", source };
    fs::create_dir_all(folder).map_err(failed)?;
    Ok(own_files(folder)?.add([EVENTS_FILE])?)
}
