//! `checkpoint-N` folders: complete or not there at all.
//!
//! A save is written into `checkpoint-N.tmp-PID`; each file is flushed to disk and hashed; `manifest.json` with the
//! hashes comes last; then one rename puts the folder in place and the parent is flushed. Invariants: a folder named
//! `checkpoint-N` whose manifest verifies holds exactly what was saved; an older save goes only after a newer one is
//! complete. Look next at `snapshot` for what is inside.

use crate::TrainError;
use remat_formats::{FormatsError, fsync_folder, sha256_file};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

pub(crate) const MANIFEST: &str = "manifest.json";
pub(crate) const PREFIX: &str = "checkpoint-";
/// A manifest is a few hundred bytes; anything much larger is not one.
const MOST_MANIFEST_BYTES: u64 = 16 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct Manifest {
    schema: u32,
    step: u64,
    files: BTreeMap<String, FileRecord>,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct FileRecord {
    bytes: u64,
    sha256: String,
}

/// The saves of one run folder.
#[derive(Debug)]
pub struct Saves {
    out: PathBuf,
}

/// A complete save.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Save {
    /// Updates made before it.
    pub step: u64,
    /// Its folder.
    pub path: PathBuf,
}

impl Saves {
    /// Of the run in `out`.
    pub fn new(out: &Path) -> Self {
        Saves { out: out.to_path_buf() }
    }

    /// The folder of a save.
    pub fn folder(&self, step: u64) -> PathBuf {
        self.out.join(format!("{PREFIX}{step}"))
    }

    /// Saves: `write` puts files into the folder it is given. Does nothing if this step is saved already.
    ///
    /// # Errors
    /// Whatever `write` or the file system refuses; nothing is left behind then.
    pub fn write(
        &self,
        step: u64,
        write: &mut dyn FnMut(&Path) -> Result<(), TrainError>,
    ) -> Result<PathBuf, TrainError> {
        let target = self.folder(step);
        if verify(&target).is_ok() {
            return Ok(target);
        }
        self.sweep()?;
        let temporary = self.out.join(format!("{PREFIX}{step}.tmp-{}", std::process::id()));
        let placed = fs::create_dir(&temporary)
            .map_err(not_saved)
            .and_then(|()| write(&temporary))
            .and_then(|()| seal(&temporary, step))
            .and_then(|()| remove_save(&target).map_err(not_saved))
            .and_then(|()| fs::rename(&temporary, &target).map_err(not_saved))
            .and_then(|()| fsync_folder(&self.out).map_err(not_saved));
        if placed.is_err() {
            // The first failure is the one to report; what cannot be removed now is swept by the next save.
            drop(fs::remove_dir_all(&temporary));
        }
        placed.map(|()| target)
    }

    /// Removes the oldest saves until at most `limit` are left. Call it after a save is complete.
    ///
    /// # Errors
    /// A folder that cannot be removed.
    pub fn prune(&self, limit: usize) -> Result<(), TrainError> {
        let mut steps = self.steps()?;
        let surplus = steps.len().saturating_sub(limit.max(1));
        steps.truncate(surplus);
        for step in steps {
            let path = self.folder(step);
            remove_save(&path).map_err(|source| TrainError::Io { path, what: "remove", source })?;
        }
        Ok(())
    }

    /// The newest save that verifies, and a note on each newer one that does not.
    ///
    /// # Errors
    /// No complete save.
    pub fn latest_complete(&self) -> Result<(Save, Vec<String>), TrainError> {
        let mut notes = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            let path = self.folder(step);
            match verify(&path) {
                Ok(saved_step) if saved_step == step => return Ok((Save { step, path }, notes)),
                Ok(other) => notes.push(format!("{} is the save of step {other}: skipped", path.display())),
                Err(problem) => notes.push(format!("{} is not complete ({problem}): skipped", path.display())),
            }
        }
        let notes = notes.iter().map(|note| format!("; {note}")).collect();
        Err(TrainError::NothingToResume { out: self.out.clone(), notes })
    }

    /// Steps that have a folder, complete or not, in order.
    fn steps(&self) -> Result<Vec<u64>, TrainError> {
        let entries = fs::read_dir(&self.out).map_err(|source| TrainError::Io {
            path: self.out.clone(),
            what: "read",
            source,
        })?;
        let step_of = |name: &str| {
            let digits = name.strip_prefix(PREFIX)?;
            digits.parse::<u64>().ok().filter(|step| step.to_string() == digits)
        };
        let mut steps: Vec<u64> = entries.flatten().filter_map(|entry| step_of(entry.file_name().to_str()?)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes what interrupted saves left behind.
    fn sweep(&self) -> Result<(), TrainError> {
        let failed = |path: &Path, source| TrainError::Io { path: path.to_path_buf(), what: "remove", source };
        for entry in fs::read_dir(&self.out).map_err(|source| failed(&self.out, source))?.flatten() {
            let leftover = entry
                .file_name()
                .to_str()
                .and_then(|name| name.strip_prefix(PREFIX))
                .is_some_and(|rest| rest.contains(".tmp-"));
            if leftover {
                fs::remove_dir_all(entry.path()).map_err(|source| failed(&entry.path(), source))?;
            }
        }
        Ok(())
    }
}

/// Flushes every file, then writes the manifest and flushes the folder.
fn seal(folder: &Path, step: u64) -> Result<(), TrainError> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).map_err(not_saved)? {
        let path = entry.map_err(not_saved)?.path();
        File::open(&path).and_then(|file| file.sync_all()).map_err(not_saved)?;
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        files.insert(name, record(&path).map_err(not_saved)?);
    }
    let text = serde_json::to_string_pretty(&Manifest { schema: 1, step, files }).map_err(not_saved)?;
    let written = File::create_new(folder.join(MANIFEST))
        .and_then(|mut manifest| manifest.write_all(text.as_bytes()).and_then(|()| manifest.sync_all()));
    written.map_err(not_saved)?;
    fsync_folder(folder).map_err(not_saved)
}

fn not_saved(error: impl std::fmt::Display) -> TrainError {
    TrainError::NotSaved { problem: error.to_string() }
}

/// Checks a save against its manifest and returns its step; the error says what is wrong.
fn verify(folder: &Path) -> Result<u64, String> {
    let path = folder.join(MANIFEST);
    let mut text = String::new();
    File::open(&path)
        .and_then(|file| file.take(MOST_MANIFEST_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.schema != 1 {
        return Err(format!("{MANIFEST}: schema {} is not known to this version", manifest.schema));
    }
    for (name, expected) in &manifest.files {
        if name.contains(['/', '\\']) || name == ".." {
            return Err(format!("{MANIFEST}: \"{name}\" is not a file name"));
        }
        let found = record(&folder.join(name)).map_err(|error| format!("{name}: {error}"))?;
        if found.bytes != expected.bytes {
            return Err(format!("{name} has {} bytes instead of {}", found.bytes, expected.bytes));
        }
        if found != *expected {
            return Err(format!("{name} has another hash than {MANIFEST} says"));
        }
    }
    Ok(manifest.step)
}

fn record(path: &Path) -> Result<FileRecord, FormatsError> {
    let sha256 = sha256_file(path)?;
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(FileRecord { bytes, sha256 })
}

/// Removes a save, manifest first: whatever is left after a crash is not taken for complete.
fn remove_save(folder: &Path) -> io::Result<()> {
    for removed in [fs::remove_file(folder.join(MANIFEST)), fs::remove_dir_all(folder)] {
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: [(&str, &[u8]); 2] = [("optimizer.safetensors", &[7; 300]), ("trainer_state.json", b"{\"step\": 1}")];

    fn save(saves: &Saves, step: u64) -> PathBuf {
        let written = saves.write(step, &mut |folder| {
            for (name, bytes) in FILES {
                fs::write(folder.join(name), bytes).expect("written");
            }
            Ok(())
        });
        written.expect("saved")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("exists").flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().expect("utf-8")).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn a_save_is_found_with_its_files_and_nothing_else_is_left() {
        let out = tempfile::tempdir().expect("folder");
        let saves = Saves::new(out.path());
        let path = save(&saves, 12);
        assert_eq!(names(out.path()), ["checkpoint-12"]);
        assert_eq!(names(&path), ["manifest.json", "optimizer.safetensors", "trainer_state.json"]);
        assert_eq!(saves.latest_complete().expect("complete"), (Save { step: 12, path }, vec![]));
    }

    #[test]
    fn steps_are_ordered_as_numbers() {
        let out = tempfile::tempdir().expect("folder");
        let saves = Saves::new(out.path());
        for step in [9, 10, 2] {
            save(&saves, step);
        }
        fs::create_dir(out.path().join("checkpoint-011")).expect("created");
        assert_eq!(saves.latest_complete().expect("complete").0.step, 10);
    }

    #[test]
    fn every_torn_save_is_skipped_with_a_note() {
        type Damage = fn(&Path);
        let damages: [(&str, Damage); 7] = [
            ("manifest missing", |f| fs::remove_file(f.join(MANIFEST)).expect("removed")),
            ("manifest cut", |f| cut(&f.join(MANIFEST))),
            ("file missing", |f| fs::remove_file(f.join(FILES[0].0)).expect("removed")),
            ("file cut", |f| cut(&f.join(FILES[0].0))),
            ("file flipped", |f| flip(&f.join(FILES[0].0))),
            ("small file flipped", |f| flip(&f.join(FILES[1].0))),
            ("manifest empty", |f| fs::write(f.join(MANIFEST), "").expect("written")),
        ];
        for (name, damage) in damages {
            let out = tempfile::tempdir().expect("folder");
            let saves = Saves::new(out.path());
            save(&saves, 1);
            damage(&save(&saves, 2));
            let (found, notes) = saves.latest_complete().expect("the older one is complete");
            assert_eq!(found.step, 1, "{name}");
            assert_eq!(notes.len(), 1, "{name}: {notes:?}");
            // The torn one is replaced when the run gets there again.
            save(&saves, 2);
            assert_eq!(saves.latest_complete().expect("complete").0.step, 2, "{name}");
        }
    }

    #[test]
    fn a_manifest_cannot_lead_outside_its_folder() {
        let out = tempfile::tempdir().expect("folder");
        let saves = Saves::new(out.path());
        let path = save(&saves, 1).join(MANIFEST);
        let text = fs::read_to_string(&path).expect("readable").replace(FILES[0].0, "../secret");
        fs::write(&path, text).expect("written");
        assert!(saves.latest_complete().expect_err("refused").to_string().contains("is not a file name"));
    }

    fn cut(path: &Path) {
        let bytes = fs::read(path).expect("readable");
        fs::write(path, &bytes[..bytes.len() / 2]).expect("written");
    }

    fn flip(path: &Path) {
        let mut bytes = fs::read(path).expect("readable");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(path, bytes).expect("written");
    }

    #[test]
    fn a_failed_save_leaves_nothing_and_keeps_the_older_one() {
        let out = tempfile::tempdir().expect("folder");
        let saves = Saves::new(out.path());
        save(&saves, 1);
        let failed = saves.write(2, &mut |folder| {
            fs::write(folder.join("optimizer.safetensors"), "half").expect("written");
            Err(TrainError::BadSave { path: folder.to_path_buf(), problem: "injected".to_string() })
        });
        assert!(failed.expect_err("injected").to_string().contains("injected"));
        assert_eq!(names(out.path()), ["checkpoint-1"]);
        assert_eq!(saves.latest_complete().expect("complete").0.step, 1);
    }

    #[test]
    fn leftovers_of_a_killed_process_are_swept_and_never_resumed_from() {
        let out = tempfile::tempdir().expect("folder");
        let saves = Saves::new(out.path());
        fs::create_dir(out.path().join("checkpoint-3.tmp-99")).expect("created");
        assert!(matches!(saves.latest_complete(), Err(TrainError::NothingToResume { .. })));
        save(&saves, 4);
        assert_eq!(names(out.path()), ["checkpoint-4"]);
    }

    #[test]
    fn pruning_keeps_the_newest() {
        let out = tempfile::tempdir().expect("folder");
        let saves = Saves::new(out.path());
        for step in [2, 4, 6, 8] {
            save(&saves, step);
        }
        saves.prune(2).expect("pruned");
        assert_eq!(names(out.path()), ["checkpoint-6", "checkpoint-8"]);
        saves.prune(0).expect("pruned");
        assert_eq!(names(out.path()), ["checkpoint-8"], "the newest always stays");
    }
}
