//! A folder that a model is written to: it appears when it is whole, and of one that is there only what was written here goes.
//!
//! Invariants: nothing is written over an input; the folder has its name when it is complete and on disk, and not at all if
//! anything fails; under `--force` the old model goes once the new one is whole, and other files stay. Look next at
//! `remat_formats::OwnFiles` for what is remat's.

use crate::ModelError;
use crate::companions::{MODEL_FILES, is_shard};
use remat_formats::{
    FormatsError, OwnFiles, Places, SettingName, Unfinished, files_below, fsync_folder, lock_folder, probe_folder,
    require_space, resolve, unfinished_folder,
};
use std::fs::TryLockError;
use std::path::Path;

/// What `--out` names.
#[derive(Debug)]
pub(crate) struct OutFolder<'a> {
    path: &'a Path,
    is_there: bool,
}

/// The setting that names such a folder.
fn name() -> String {
    SettingName("out").to_string()
}

/// Writes all files of a model into a folder.
type Write<'a> = dyn FnMut(&Path) -> Result<(), ModelError> + 'a;

impl<'a> OutFolder<'a> {
    /// Looks at the folder; `inputs` are what the command reads.
    ///
    /// # Errors
    /// A folder that meets an input; one that is there, without `replace`.
    pub(crate) fn open(path: &'a Path, inputs: Places, replace: bool) -> Result<Self, ModelError> {
        inputs.writes_folder(&name(), path, MODEL_FILES.iter().copied())?.check()?;
        let out = OutFolder { path, is_there: path.symlink_metadata().is_ok() };
        match out.is_there && !replace {
            true => {
                let replace = SettingName("force");
                out.refuse(&format!("exists; choose another folder, or replace it with {replace}"))
            }
            false => Ok(out),
        }
    }

    /// Makes sure that files can be made there.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn probe(&self) -> Result<(), ModelError> {
        match probe_folder(self.path) {
            Err(error) => self.refuse(&format!("cannot be written: {error}; choose a folder you may write to")),
            Ok(()) => Ok(()),
        }
    }

    /// Makes sure that so many bytes find room.
    ///
    /// # Errors
    /// A disk with less free.
    pub(crate) fn require_space(&self, bytes: u64) -> Result<(), ModelError> {
        Ok(require_space(&name(), self.path, bytes)?)
    }

    /// Writes the model.
    ///
    /// # Errors
    /// What `write` returns or the system refuses; a folder there that remat did not write.
    pub(crate) fn write(&self, write: &mut Write<'_>) -> Result<(), ModelError> {
        if self.is_there { self.replaced(write) } else { written(self.path, write) }
    }

    fn refuse<T>(&self, problem: &str) -> Result<T, ModelError> {
        Err(ModelError::Setting(format!("{} {}: {problem}", name(), self.path.display())))
    }

    /// A folder that holds a model which was written here.
    fn replaced(&self, write: &mut Write<'_>) -> Result<(), ModelError> {
        let _lock = match lock_folder(self.path) {
            Err(TryLockError::WouldBlock) => {
                return self.refuse("another command is writing to it; wait until it ends, or choose another folder");
            }
            // A file system without locks is no reason not to write.
            lock => lock.ok(),
        };
        let no_model = "is not a model folder that remat wrote, so it is not replaced; choose another folder, or remove it \
                        yourself";
        let Some(mut own) = OwnFiles::read(self.path)? else { return self.refuse(no_model) };
        own.recover()?;
        if !own.holds("config.json") {
            return self.refuse(no_model);
        }
        let there = files_below(self.path).map_err(failed(self.path, "read the folder"))?;
        let shards = there.iter().map(String::as_str).filter(|name| is_shard(name));
        let results: Vec<&str> = MODEL_FILES.iter().copied().chain(shards).collect();
        own.refuse_foreign(&name(), results.iter().copied())?;
        own.install(&results, write)
    }
}

/// A folder that is not there yet: it gets its name when it is whole.
fn written(out: &Path, write: &mut Write<'_>) -> Result<(), ModelError> {
    // The last part of a path may be `..`, or a link to what is not there yet.
    let out = &resolve(out).map_err(failed(out, "find the folder"))?;
    let above = out.parent().unwrap_or(out);
    std::fs::create_dir_all(above).map_err(failed(above, "create the folder"))?;
    let Unfinished { path: temporary, lock: _lock } =
        unfinished_folder(out).map_err(failed(out, "create the folder"))?;
    let whole = write(&temporary).and_then(|()| {
        let names = files_below(&temporary).map_err(failed(&temporary, "read the folder"))?;
        OwnFiles::of(&temporary, [] as [&str; 0]).add(names.iter().map(String::as_str))?;
        std::fs::rename(&temporary, out).map_err(failed(out, "give the folder its name"))?;
        Ok(fsync_folder(above)?)
    });
    whole.inspect_err(|_| {
        // The write has failed already; a leftover that cannot be removed either changes nothing.
        let _ = std::fs::remove_dir_all(&temporary);
    })
}

fn failed(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> ModelError {
    let path = path.to_path_buf();
    move |source| FormatsError::NotWritten { path, action, source }.into()
}
