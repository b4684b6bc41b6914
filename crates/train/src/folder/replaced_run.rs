//! The run that `--force` replaces: kept until the new one has something whole of its own.
//!
//! The old result and its record stay where they are until the new result takes their place (`OwnFiles::install`). What a
//! resume would read (`config.toml`, `metrics.jsonl`, rows, checkpoint-N) is set aside as a whole, so that no resume goes on with
//! a mixture of two runs. What holds at every moment of a kill:
//!
//! | until | in the folder | in `.remat-replaced` |
//! |---|---|---|
//! | the first update | the old result; nothing to resume, since `config.toml` is moved first and written last | the old run's state (in `.remat-replacing` while it is moved) |
//! | the new run's first complete save or its result | the old result; the new run's settings and metrics, and no save | the old run's state |
//! | the new result | the old result; the new run's state, which `--resume` goes on with | |
//! | the end | the new result and state | |
//!
//! A forced run that finds `.remat-replaced` replaces a run which never got that far: what that one left goes, what is set
//! aside stays. Invariant: `.remat-replaced` is one run's state or does not exist; it leaves by one rename.

use crate::TrainError;
use crate::folder::file_names::STATE_FILES;
use crate::folder::ownership::is_save;
use crate::folder::saves::Saves;
use remat_formats::{OwnFiles, fsync_folder};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

const REPLACED: &str = ".remat-replaced";
const REPLACING: &str = ".remat-replacing";
/// What is being removed.
const GONE: &str = ".remat-gone-";

/// Where the state of a replaced run is kept, if it is.
pub(crate) fn kept(folder: &Path) -> Option<PathBuf> {
    Some(folder.join(REPLACED)).filter(|path| path.symlink_metadata().is_ok())
}

/// The error, with where a replaced run is kept: a forced run that was killed early left nothing to resume.
pub(crate) fn naming_the_kept(error: TrainError) -> TrainError {
    match error {
        TrainError::NothingToResume { out, notes } => {
            let kept = kept(&out).map(|kept| format!("; the run that was to be replaced is in {}", kept.display()));
            TrainError::NothingToResume { notes: notes + &kept.unwrap_or_default(), out }
        }
        other => other,
    }
}

/// Takes what a resume would read out of the folder. All saves in it have to be remat's.
///
/// # Errors
/// What the system refuses; another `--force` goes on from there.
pub(crate) fn set_aside(folder: &Path, own: &mut OwnFiles) -> Result<(), TrainError> {
    if kept(folder).is_some() && Saves::new(folder).latest_complete().is_ok() {
        retire(folder)?;
    }
    if kept(folder).is_some() {
        own.remove(STATE_FILES)?;
        return saves(folder)?
            .iter()
            .try_for_each(|save| fs::remove_dir_all(save).map_err(|source| failed(save, "remove", source)));
    }
    let moving = folder.join(REPLACING);
    let files = STATE_FILES.into_iter().filter(|name| own.holds(name));
    let mut left: Vec<PathBuf> = files.map(|name| folder.join(name)).collect();
    left.extend(saves(folder)?);
    if left.is_empty() && !moving.exists() {
        return Ok(());
    }
    fs::create_dir_all(&moving).map_err(|source| failed(&moving, "create", source))?;
    for path in left {
        let to = moving.join(path.file_name().unwrap_or_default());
        fs::rename(&path, to).map_err(|source| failed(&path, "set aside", source))?;
    }
    let whole = folder.join(REPLACED);
    fs::rename(&moving, &whole).map_err(|source| failed(&whole, "name", source))?;
    Ok(fsync_folder(folder)?)
}

/// Removes the state of a replaced run: the new one has a complete save or its result.
///
/// # Errors
/// What the system refuses; it is tried again after the next save.
pub(crate) fn retire(folder: &Path) -> Result<(), TrainError> {
    if let Some(kept) = kept(folder) {
        let gone = folder.join(format!("{GONE}{}", std::process::id()));
        fs::rename(&kept, gone).map_err(|source| failed(&kept, "rename", source))?;
    }
    for gone in named(folder, |name| name.starts_with(GONE))? {
        for save in saves(&gone)? {
            fs::remove_dir_all(&save).map_err(|source| failed(&save, "remove", source))?;
        }
        for path in STATE_FILES.map(|name| gone.join(name)) {
            match fs::remove_file(&path) {
                Err(source) if source.kind() != ErrorKind::NotFound => return Err(failed(&path, "remove", source)),
                _ => {}
            }
        }
        // What somebody put there stays, and the folder with it.
        drop(fs::remove_dir(&gone));
    }
    Ok(())
}

fn saves(folder: &Path) -> Result<Vec<PathBuf>, TrainError> {
    named(folder, is_save)
}

/// The folders in a folder whose names are such; links are none.
fn named(folder: &Path, is_such: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>, TrainError> {
    let entries = fs::read_dir(folder).map_err(|source| failed(folder, "read", source))?.flatten();
    let such = entries.filter(|entry| {
        entry.file_name().to_str().is_some_and(&is_such) && entry.file_type().is_ok_and(|kind| kind.is_dir())
    });
    Ok(such.map(|entry| entry.path()).collect())
}

fn failed(path: &Path, what: &'static str, source: std::io::Error) -> TrainError {
    TrainError::Io { path: path.to_path_buf(), what, source }
}
