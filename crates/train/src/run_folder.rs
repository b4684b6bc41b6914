//! The folder a run writes to: refused, probed and created before anything expensive, cleared only when forced, and locked
//! while the run goes.
//!
//! Invariant: a run that is refused, for whatever reason, has changed nothing on disk: `inspect` only looks, and
//! `create` is called after all input was checked. Look next at `metrics` and `saves` for what goes inside.

use crate::{RECORD_FILE, RECORD_TEXT_FILE, TrainConfig, TrainError};
use remat_formats::write_atomic;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Settings of the run, as resolved.
pub const CONFIG_FILE: &str = "config.toml";
/// One line of JSON per update.
pub const METRICS_FILE: &str = "metrics.jsonl";

/// Locked by the run that writes to the folder. The system frees it when that process ends, however it ends; the file
/// itself stays, because whoever removed it might remove the lock of the next run.
const LOCK_FILE: &str = ".lock";

/// Files that a run leaves in its folder beside checkpoint-N: what `--force` may replace.
const RESULT_FILES: &[&str] = &[
    CONFIG_FILE,
    METRICS_FILE,
    "adapter_config.json",
    "adapter_model.safetensors",
    "config.json",
    "generation_config.json",
    "model.safetensors",
    RECORD_FILE,
    RECORD_TEXT_FILE,
    "report.html",
    "tokenizer.json",
    "tokenizer_config.json",
];

/// What to do with a folder that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse it unless it is empty.
    Refuse,
    /// Take what a former run left there away.
    Replace,
    /// Go on with the run in it.
    Resume,
}

/// A folder that can be written to.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    existing: Existing,
    /// The lock, once there is a folder to lock.
    lock: Option<File>,
}

impl RunFolder {
    /// Checks that a run can write to `path`, without leaving a trace.
    ///
    /// # Errors
    /// The path is a file, a folder with content that may not be replaced, in use by another run, or not writable.
    pub fn inspect(path: &Path, existing: Existing) -> Result<Self, TrainError> {
        let unwritable = |source| TrainError::OutUnwritable { path: path.to_path_buf(), source };
        let mut lock = None;
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(TrainError::OutIsFile { path: path.to_path_buf() }),
            Ok(_) => {
                if let Ok(file) = OpenOptions::new().write(true).open(path.join(LOCK_FILE)) {
                    lock = Some(locked(path, file)?);
                }
                if existing == Existing::Refuse && is_occupied(path).map_err(unwritable)? {
                    return Err(TrainError::OutExists { path: path.to_path_buf() });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && existing != Existing::Resume => {}
            Err(error) => return Err(unwritable(error)),
        }
        probe(path).map_err(unwritable)?;
        Ok(RunFolder { path: path.to_path_buf(), existing, lock })
    }

    /// Makes the folder, locks it, takes a replaced run away, and writes `config.toml`.
    ///
    /// # Errors
    /// Another run that was faster; whatever the file system refuses.
    pub fn create(&mut self, config: &TrainConfig) -> Result<(), TrainError> {
        let unwritable = |source| TrainError::OutUnwritable { path: self.path.clone(), source };
        fs::create_dir_all(&self.path).map_err(unwritable)?;
        if self.lock.is_none() {
            let mut options = OpenOptions::new();
            let file = options.write(true).create(true).truncate(false).open(self.path.join(LOCK_FILE));
            self.lock = Some(locked(&self.path, file.map_err(unwritable)?)?);
            // A run may have begun and ended here since this one looked.
            if self.existing == Existing::Refuse && is_occupied(&self.path).map_err(unwritable)? {
                return Err(TrainError::OutExists { path: self.path.clone() });
            }
        }
        if self.existing == Existing::Replace {
            self.clear()?;
        }
        let written = write_atomic(&self.path.join(CONFIG_FILE), config.to_toml().as_bytes());
        written.map_err(|error| TrainError::NotSaved { problem: error.to_string() })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn clear(&self) -> Result<(), TrainError> {
        let failed = |path: &Path, source| TrainError::Io { path: path.to_path_buf(), what: "remove", source };
        for name in RESULT_FILES {
            let path = self.path.join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(&path, error)),
                _ => {}
            }
        }
        for entry in fs::read_dir(&self.path).map_err(|source| failed(&self.path, source))?.flatten() {
            let of_a_run = entry.file_name().to_str().is_some_and(|name| name.starts_with("checkpoint-"));
            if of_a_run && entry.path().is_dir() {
                fs::remove_dir_all(entry.path()).map_err(|source| failed(&entry.path(), source))?;
            }
        }
        Ok(())
    }
}

/// The file, locked for as long as it is open.
fn locked(path: &Path, file: File) -> Result<File, TrainError> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(TrainError::OutInUse { path: path.to_path_buf() }),
        // A file system without locks is no reason not to train.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Whether there is anything in the folder but a lock.
fn is_occupied(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        if entry?.file_name() != LOCK_FILE {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Writes and removes an empty file in the folder, or in the nearest one above it that exists.
fn probe(path: &Path) -> io::Result<()> {
    let folder = path.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("."));
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let file = folder.join(format!(".remat-probe-{}", std::process::id()));
    OpenOptions::new().write(true).create_new(true).open(&file)?;
    fs::remove_file(&file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("exists")
            .flatten()
            .map(|e| e.file_name().into_string().expect("utf-8"))
            .collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn inspecting_leaves_no_trace_and_creating_makes_parents() {
        let root = tempfile::tempdir().expect("temporary folder");
        let out = root.path().join("a/b");
        let mut folder = RunFolder::inspect(&out, Existing::Refuse).expect("can be created");
        assert!(names(root.path()).is_empty());
        folder.create(&TrainConfig::default()).expect("created");
        assert_eq!(names(&out), [".lock", "config.toml"]);
    }

    #[test]
    fn an_occupied_folder_is_refused_and_untouched() {
        let root = tempfile::tempdir().expect("temporary folder");
        fs::write(root.path().join("notes.txt"), "mine").expect("written");
        let message = RunFolder::inspect(root.path(), Existing::Refuse).expect_err("occupied").to_string();
        assert!(message.contains("--force") && message.contains("--resume"), "{message}");
        assert_eq!(names(root.path()), ["notes.txt"]);
    }

    #[test]
    fn force_replaces_a_run_and_nothing_else() {
        let root = tempfile::tempdir().expect("temporary folder");
        for name in ["notes.txt", METRICS_FILE, "adapter_model.safetensors"] {
            fs::write(root.path().join(name), "old").expect("written");
        }
        for name in ["checkpoint-5", "mine"] {
            fs::create_dir(root.path().join(name)).expect("created");
            fs::write(root.path().join(name).join("x"), "old").expect("written");
        }
        let mut folder = RunFolder::inspect(root.path(), Existing::Replace).expect("may be replaced");
        assert_eq!(names(root.path()).len(), 5, "inspecting must not clear");
        folder.create(&TrainConfig::default()).expect("created");
        assert_eq!(names(root.path()), [".lock", "config.toml", "mine", "notes.txt"]);
    }

    #[test]
    fn one_run_writes_to_a_folder_at_a_time() {
        let root = tempfile::tempdir().expect("temporary folder");
        let out = root.path().join("out");
        let inspect = |existing| RunFolder::inspect(&out, existing);
        // Both look before either has begun; the slower one is refused.
        let (mut first, mut second) =
            (inspect(Existing::Refuse).expect("free"), inspect(Existing::Refuse).expect("free"));
        first.create(&TrainConfig::default()).expect("the first");
        let late = second.create(&TrainConfig::default()).expect_err("the second");
        assert!(matches!(late, TrainError::OutInUse { .. }), "{late}");
        for existing in [Existing::Refuse, Existing::Replace, Existing::Resume] {
            let message = inspect(existing).expect_err("in use").to_string();
            assert!(message.contains("another run is writing to it"), "{existing:?}: {message}");
        }
        drop(first);
        assert!(matches!(inspect(Existing::Refuse), Err(TrainError::OutExists { .. })));
        let resumed = inspect(Existing::Resume).expect("free again");
        // It is locked from the look on, before anything is created.
        assert!(matches!(inspect(Existing::Resume), Err(TrainError::OutInUse { .. })));
        drop(resumed);
    }

    #[test]
    fn what_cannot_be_written_is_refused() {
        let root = tempfile::tempdir().expect("temporary folder");
        let file = root.path().join("file");
        fs::write(&file, "").expect("written");
        let as_file = RunFolder::inspect(&file, Existing::Refuse).expect_err("a file");
        assert!(matches!(as_file, TrainError::OutIsFile { .. }), "{as_file}");
        let below_file = RunFolder::inspect(&file.join("out"), Existing::Refuse).expect_err("below a file");
        assert!(matches!(below_file, TrainError::OutUnwritable { .. }), "{below_file}");
        let absent = RunFolder::inspect(&root.path().join("absent"), Existing::Resume).expect_err("nothing to resume");
        assert!(matches!(absent, TrainError::OutUnwritable { .. }), "{absent}");
    }
}
