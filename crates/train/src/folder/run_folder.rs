//! The folder a run writes to: refused, probed and created before anything expensive, cleared only when forced, and locked
//! while the run goes.
//!
//! Invariants: a run that is refused, for whatever reason, has changed nothing on disk: `inspect` only looks, and `create`
//! is called after all input was checked. Nothing is replaced or removed that remat did not write there (`ownership`), and
//! what is replaced goes only after what replaces it is whole (`replaced_run`). Look next at `metrics` and `saves` for what
//! goes inside.

use crate::folder::best::BestFolder;
use crate::folder::events_folder;
use crate::folder::existing::Existing;
use crate::folder::file_names::{CONFIG_FILE, EVENTS_FILE, METRICS_FILE, RECORD_FILES};
use crate::folder::ownership::{files_of_run, foreign_save, own_files};
use crate::folder::replaced_run::{kept, retire, set_aside};
use crate::ranks::error_file::{self, ERRORS_FOLDER};
use crate::settings::kinds::MethodKind;
use crate::{TrainConfig, TrainError};
use remat_formats::SettingName;
use remat_formats::{FormatsError, LISTING_FILE, fsync_folder, is_unfinished, lock_folder, probe_folder, write_atomic};
use remat_model::{ADAPTER_FILES, MODEL_FILES, companion_files};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// Locked by the run that writes to the folder, as the folder itself is: whoever removes this file lets no second run in.
/// The system frees both when that process ends, however it ends; the file stays, for runs of older versions.
const LOCK_FILE: &str = ".lock";

/// A folder that can be written to.
#[derive(Debug)]
pub struct RunFolder {
    path: PathBuf,
    existing: Existing,
    method: MethodKind,
    /// The locks, once there is a folder to lock.
    locks: Option<Locks>,
}

/// The folder and its lock file, as far as the file system has locks.
#[derive(Debug)]
struct Locks {
    _folder: Option<File>,
    file: Option<File>,
}

impl RunFolder {
    /// Checks that a run with these settings can write to its folder, without leaving a trace.
    ///
    /// # Errors
    /// The path is a file, a folder with content that may not be replaced, in use by another run, or not writable.
    pub fn inspect(config: &TrainConfig, existing: Existing) -> Result<Self, TrainError> {
        let (path, method) = (config.out.clone(), config.method);
        let unwritable = |source| TrainError::OutUnwritable { path: config.out.clone(), source };
        let mut locks = None;
        match fs::metadata(&path) {
            Ok(found) if !found.is_dir() => return Err(TrainError::OutIsFile { path }),
            Ok(_) => {
                locks = Some(Locks::of_folder(&path)?);
                refuse_content(&path, method, existing)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound && existing != Existing::Resume => {}
            Err(error) => return Err(unwritable(error)),
        }
        probe_folder(&path).map_err(unwritable)?;
        events_folder::inspect(config, existing)?;
        Ok(RunFolder { path, existing, method, locks })
    }

    /// Makes the folder, locks it, sets a replaced run aside, and writes `config.toml`. Says where the replaced run is.
    ///
    /// # Errors
    /// Another run that was faster; whatever the file system refuses.
    pub fn create(&mut self, config: &TrainConfig) -> Result<Option<String>, TrainError> {
        let unwritable = |source| TrainError::OutUnwritable { path: self.path.clone(), source };
        let missing = self.path.ancestors().take_while(|folder| !folder.as_os_str().is_empty() && !folder.exists());
        let missing: Vec<&Path> = missing.collect();
        fs::create_dir_all(&self.path).map_err(unwritable)?;
        // A power cut must not take a new folder with all that was synced inside it. Where a parent cannot be read, it
        // cannot be synced either, which is no reason not to train.
        missing.iter().filter_map(|folder| folder.parent()).for_each(|parent| drop(fsync_folder(parent)));
        let was_there = self.locks.is_some();
        let locks = self.locks.take().map_or_else(|| Locks::of_folder(&self.path), Ok)?;
        self.locks = Some(locks.with_file(&self.path)?);
        if !was_there {
            // A run may have begun and ended here since this one looked.
            refuse_content(&self.path, self.method, self.existing)?;
        }
        error_file::clear(&self.path);
        let mut own = own_files(&self.path)?;
        own.recover()?;
        BestFolder::of(&self.path).recover()?;
        let mut note = None;
        if self.existing == Existing::Replace {
            set_aside(&self.path, &mut own)?;
            note = kept(&self.path).map(|kept| {
                format!("the run that was here stays in {} until this one has saved or finished", kept.display())
            });
        }
        own.add([CONFIG_FILE, METRICS_FILE, EVENTS_FILE])?;
        events_folder::create(config)?;
        let written = write_atomic(&self.path.join(CONFIG_FILE), config.to_toml().as_bytes());
        written.map_err(TrainError::not_saved)?;
        Ok(note)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts the run's result in place of an older one; `write` puts it into the folder that it is given.
    ///
    /// # Errors
    /// What `write` returns or the file system refuses; the older result is in place then.
    pub fn install(&self, write: &mut dyn FnMut(&Path) -> Result<(), TrainError>) -> Result<(), TrainError> {
        let not_saved = |error: TrainError| match error {
            TrainError::Formats(error) => TrainError::not_saved(error),
            other => other,
        };
        // What the older result had beside its files was said of it alone.
        let results: Vec<&str> = [ADAPTER_FILES, MODEL_FILES, RECORD_FILES].concat();
        let mut own = own_files(&self.path)?;
        // A tokenizer that somebody put beside an adapter is theirs, and stays.
        let mut kept = companion_files(&self.path)?;
        kept.retain(|name| self.method != MethodKind::Full && own.first_foreign([name.as_str()]).is_some());
        let mut write = |new: &Path| {
            write(new)?;
            kept.iter().for_each(|name| drop(fs::remove_file(new.join(name))));
            Ok(())
        };
        own.install(&results, &mut write).map_err(not_saved)
    }

    /// Lists the record and the report, which are about to be written.
    ///
    /// # Errors
    /// What the file system refuses.
    pub fn list_record(&self) -> Result<(), FormatsError> {
        own_files(&self.path)?.add(RECORD_FILES.iter().copied())
    }

    /// Lets a replaced run go, now that this one has a complete save or its result. Says what is in the way.
    pub fn retire_replaced(&self) -> Option<String> {
        kept(&self.path)?;
        retire(&self.path).err().map(|error| format!("{error}; the run that was replaced is left there in part"))
    }
}

impl Locks {
    /// The folder's lock, and that of its lock file if there is one.
    fn of_folder(path: &Path) -> Result<Self, TrainError> {
        let folder = match lock_folder(path) {
            Err(TryLockError::WouldBlock) => return Err(TrainError::OutInUse { path: path.to_path_buf() }),
            // A file system without locks is no reason not to train.
            lock => lock.ok(),
        };
        let file = OpenOptions::new().write(true).open(path.join(LOCK_FILE)).ok();
        Ok(Locks { _folder: folder, file: file.map(|file| locked(path, file)).transpose()? })
    }

    /// With the lock file, made if it is not there.
    fn with_file(self, path: &Path) -> Result<Self, TrainError> {
        if self.file.is_some() {
            return Ok(self);
        }
        let file = OpenOptions::new().write(true).create(true).truncate(false).open(path.join(LOCK_FILE));
        let file = file.map_err(|source| TrainError::OutUnwritable { path: path.to_path_buf(), source })?;
        Ok(Locks { file: Some(locked(path, file)?), ..self })
    }
}

/// The file, locked for as long as it is open.
fn locked(path: &Path, file: File) -> Result<File, TrainError> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(TrainError::OutInUse { path: path.to_path_buf() }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(file),
    }
}

/// Refuses a folder for what is in it.
fn refuse_content(path: &Path, method: MethodKind, existing: Existing) -> Result<(), TrainError> {
    if existing == Existing::Refuse {
        let occupied =
            is_occupied(path).map_err(|source| TrainError::OutUnwritable { path: path.to_path_buf(), source });
        return if occupied? { Err(TrainError::OutExists { path: path.to_path_buf() }) } else { Ok(()) };
    }
    let out = SettingName("out").to_string();
    own_files(path)?.refuse_foreign(&out, files_of_run(method))?;
    match foreign_save(path) {
        Some(name) if existing == Existing::Replace => Err(FormatsError::foreign(&out, path, &name).into()),
        _ => Ok(()),
    }
}

/// Whether there is anything in the folder but a lock, an empty listing, the errors of a run that did not begin and what was
/// left of a file that a kill kept from its name: that a run was killed as it began is no reason not to begin again.
fn is_occupied(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        let is_left = name.to_str().is_some_and(is_unfinished);
        if name != LOCK_FILE && name != LISTING_FILE && name != ERRORS_FOLDER && !is_left {
            return Ok(true);
        }
    }
    Ok(false)
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

    /// Settings of a run in this folder.
    fn at(out: &Path) -> TrainConfig {
        TrainConfig { out: out.to_path_buf(), ..TrainConfig::default() }
    }

    fn install(folder: &RunFolder, names: &[&str]) {
        let written = folder.install(&mut |new| {
            names.iter().for_each(|name| fs::write(new.join(name), "new").expect("written"));
            Ok(())
        });
        written.expect("installed");
    }

    #[test]
    fn inspecting_leaves_no_trace_and_creating_makes_parents() {
        let root = tempfile::tempdir().expect("temporary folder");
        let out = root.path().join("a/b");
        let mut folder = RunFolder::inspect(&at(&out), Existing::Refuse).expect("can be created");
        assert!(names(root.path()).is_empty());
        folder.create(&at(&out)).expect("created");
        assert_eq!(names(&out), [".lock", LISTING_FILE, "config.toml"]);
    }

    #[test]
    fn an_occupied_folder_is_refused_and_untouched() {
        let root = tempfile::tempdir().expect("temporary folder");
        fs::write(root.path().join("notes.txt"), "mine").expect("written");
        let message = RunFolder::inspect(&at(root.path()), Existing::Refuse).expect_err("occupied").to_string();
        assert!(message.contains("`force`") && message.contains("`resume`"), "{message}");
        assert_eq!(names(root.path()), ["notes.txt"]);
    }

    /// A folder with a finished run, one save, and files of somebody's.
    fn finished_run() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("temporary folder");
        let mut run = RunFolder::inspect(&at(root.path()), Existing::Refuse).expect("empty");
        run.create(&at(root.path())).expect("created");
        install(&run, ADAPTER_FILES);
        run.list_record().expect("listed");
        for name in [METRICS_FILE, "record.json", "notes.txt", "tokenizer.json", "adapter_model.safetensors"] {
            fs::write(root.path().join(name), "old").expect("written");
        }
        for name in ["checkpoint-5", "mine"] {
            fs::create_dir(root.path().join(name)).expect("created");
            fs::write(root.path().join(name).join("manifest.json"), "old").expect("written");
        }
        root
    }

    #[test]
    fn force_sets_a_run_aside_and_lets_it_go_once_the_new_one_is_whole() {
        let root = finished_run();
        let read = |name: &str| fs::read_to_string(root.path().join(name)).expect("readable");
        let before = names(root.path());
        let mut folder = RunFolder::inspect(&at(root.path()), Existing::Replace).expect("may be replaced");
        assert_eq!(names(root.path()), before, "inspecting must not clear");
        let note = folder.create(&at(root.path())).expect("created").expect("something was set aside");
        assert!(note.contains(".remat-replaced"), "{note}");
        assert_eq!(names(&root.path().join(".remat-replaced")), ["checkpoint-5", "config.toml", METRICS_FILE]);
        assert_eq!(read("adapter_model.safetensors"), "old", "the old result is there until the new one is");
        drop(folder);

        // That one got nowhere. The next one keeps what was set aside, and nothing of it.
        fs::write(root.path().join(METRICS_FILE), "second").expect("written");
        let mut folder = RunFolder::inspect(&at(root.path()), Existing::Replace).expect("may be replaced");
        folder.create(&at(root.path())).expect("created").expect("still aside");
        assert!(!root.path().join(METRICS_FILE).exists());
        assert_eq!(read(".remat-replaced/metrics.jsonl"), "old");

        install(&folder, ADAPTER_FILES);
        assert_eq!(folder.retire_replaced(), None);
        let left = [".lock", LISTING_FILE, "adapter_config.json", "adapter_model.safetensors", "config.toml", "mine"];
        assert_eq!(names(root.path()), [&left[..], &["notes.txt", "tokenizer.json"]].concat());
        assert_eq!((read("adapter_model.safetensors"), read("tokenizer.json")), ("new".into(), "old".into()));
    }

    #[test]
    fn files_of_others_under_the_names_of_a_run_are_refused() {
        let refused = |root: &Path, config: &TrainConfig, name: &str| {
            let before = names(root);
            let message = RunFolder::inspect(config, Existing::Replace).expect_err("not replaced").to_string();
            assert!(message.contains(&format!("{name} there was not written by remat")), "{message}");
            assert_eq!(names(root), before);
        };
        let model = tempfile::tempdir().expect("temporary folder");
        fs::write(model.path().join("config.json"), "a model").expect("written");
        let full = |root: &Path| TrainConfig { method: MethodKind::Full, ..at(root) };
        refused(model.path(), &full(model.path()), "config.json");
        // With an adapter, nothing of a model's is written.
        RunFolder::inspect(&at(model.path()), Existing::Replace).expect("config.json stays");
        // In a run's own folder, the tokenizer that somebody put there.
        let root = finished_run();
        refused(root.path(), &full(root.path()), "tokenizer.json");
        fs::write(root.path().join("checkpoint-5/notes.txt"), "mine").expect("written");
        refused(root.path(), &at(root.path()), "checkpoint-5/notes.txt");
    }

    #[test]
    fn a_run_without_a_listing_is_known_by_its_settings() {
        let root = finished_run();
        fs::remove_file(root.path().join(LISTING_FILE)).expect("removed");
        let mut folder = RunFolder::inspect(&at(root.path()), Existing::Replace).expect("a run's");
        folder.create(&at(root.path())).expect("created");
        install(&folder, ADAPTER_FILES);
        assert!(root.path().join("tokenizer.json").exists(), "it is somebody's");
        fs::remove_file(root.path().join(LISTING_FILE)).expect("removed");
        fs::remove_file(root.path().join(CONFIG_FILE)).expect("removed");
        drop(folder);
        RunFolder::inspect(&at(root.path()), Existing::Replace).expect_err("nothing says that a run wrote it");
    }

    #[test]
    fn one_run_writes_to_a_folder_at_a_time() {
        let root = tempfile::tempdir().expect("temporary folder");
        let out = root.path().join("out");
        let inspect = |existing| RunFolder::inspect(&at(&out), existing);
        // Both look before either has begun; the slower one is refused.
        let (mut first, mut second) =
            (inspect(Existing::Refuse).expect("free"), inspect(Existing::Refuse).expect("free"));
        first.create(&at(&out)).expect("the first");
        let late = second.create(&at(&out)).expect_err("the second");
        assert!(matches!(late, TrainError::OutInUse { .. }), "{late}");
        for existing in [Existing::Refuse, Existing::Replace, Existing::Resume] {
            let message = inspect(existing).expect_err("in use").to_string();
            assert!(message.contains("another run is writing to it"), "{existing:?}: {message}");
        }
        fs::remove_file(out.join(LOCK_FILE)).expect("removed");
        assert!(matches!(inspect(Existing::Resume), Err(TrainError::OutInUse { .. })), "without its file, too");
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
        let as_file = RunFolder::inspect(&at(&file), Existing::Refuse).expect_err("a file");
        assert!(matches!(as_file, TrainError::OutIsFile { .. }), "{as_file}");
        let below_file = RunFolder::inspect(&at(&file.join("out")), Existing::Refuse).expect_err("below a file");
        assert!(matches!(below_file, TrainError::OutUnwritable { .. }), "{below_file}");
        let absent = at(&root.path().join("absent"));
        let absent = RunFolder::inspect(&absent, Existing::Resume).expect_err("nothing to resume");
        assert!(matches!(absent, TrainError::OutUnwritable { .. }), "{absent}");
    }

    #[test]
    fn what_a_kill_left_of_a_run_that_had_not_begun_is_no_content() {
        let root = tempfile::tempdir().expect("folder");
        let out = root.path().join("out");
        fs::create_dir(&out).expect("created");
        fs::write(out.join(".remat-1-0.tmp"), "half").expect("written");
        RunFolder::inspect(&at(&out), Existing::Refuse).expect("free").create(&at(&out)).expect("made");
        assert!(!out.join(".remat-1-0.tmp").exists(), "and it is swept");
    }
}
