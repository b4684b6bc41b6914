//! The folder a run writes to: refused, probed and created before anything expensive, cleared only when forced.
//!
//! Invariant: a run that is refused, for whatever reason, has changed nothing on disk: `inspect` only looks, and
//! `create` is called after all input was checked. Look next at `metrics` and `saves` for what goes inside.

use crate::{RECORD_FILE, RECORD_TEXT_FILE, TrainConfig, TrainError};
use remat_formats::write_atomic;
use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

/// Settings of the run, as resolved.
pub const CONFIG_FILE: &str = "config.toml";
/// One line of JSON per update.
pub const METRICS_FILE: &str = "metrics.jsonl";

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
}

impl RunFolder {
    /// Checks that a run can write to `path`, without leaving a trace.
    ///
    /// # Errors
    /// The path is a file, a folder with content that may not be replaced, or not writable.
    pub fn inspect(path: &Path, existing: Existing) -> Result<Self, TrainError> {
        let unwritable = |source| TrainError::OutUnwritable { path: path.to_path_buf(), source };
        match fs::metadata(path) {
            Ok(found) if !found.is_dir() => return Err(TrainError::OutIsFile { path: path.to_path_buf() }),
            Ok(_) => {
                let occupied = fs::read_dir(path).map_err(unwritable)?.next().is_some();
                if occupied && existing == Existing::Refuse {
                    return Err(TrainError::OutExists { path: path.to_path_buf() });
                }
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && existing != Existing::Resume => {}
            Err(error) => return Err(unwritable(error)),
        }
        probe(path).map_err(unwritable)?;
        Ok(RunFolder { path: path.to_path_buf(), existing })
    }

    /// Makes the folder, takes a replaced run away, and writes `config.toml`.
    ///
    /// # Errors
    /// Whatever the file system refuses.
    pub fn create(&self, config: &TrainConfig) -> Result<(), TrainError> {
        fs::create_dir_all(&self.path)
            .map_err(|source| TrainError::OutUnwritable { path: self.path.clone(), source })?;
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
        let folder = RunFolder::inspect(&out, Existing::Refuse).expect("can be created");
        assert!(names(root.path()).is_empty());
        folder.create(&TrainConfig::default()).expect("created");
        assert_eq!(names(&out), ["config.toml"]);
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
        let folder = RunFolder::inspect(root.path(), Existing::Replace).expect("may be replaced");
        assert_eq!(names(root.path()).len(), 5, "inspecting must not clear");
        folder.create(&TrainConfig::default()).expect("created");
        assert_eq!(names(root.path()), ["config.toml", "mine", "notes.txt"]);
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
