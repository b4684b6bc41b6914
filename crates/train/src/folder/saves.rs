//! `checkpoint-N` folders: complete or not there at all.
//!
//! A save is written into `checkpoint-N.tmp-PID`; each file is flushed to disk and hashed; `manifest.json` with the
//! hashes comes last; then one rename puts the folder in place and the parent is flushed. Invariants: a folder named
//! `checkpoint-N` whose manifest verifies holds exactly what was saved; an older save goes only after a newer one is
//! complete, and only if it is complete itself; a folder that is no complete save, or is one of another step, is never
//! removed, only named. Look next at `manifest` for what complete means, and at `snapshot` for what is inside.

use crate::TrainError;
use crate::folder::file_names::{BEST_FOLDER, SAVE_PREFIX};
use crate::folder::manifest::{self, Sealed};
use remat_formats::SettingName;
use remat_formats::{SETTINGS_LIMIT_BYTES, fsync_folder, read_text_file};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Between the name of a save and the id of the process that writes or removes it.
const UNFINISHED: &str = ".tmp-";
/// Between the name of a save and a number: what stood in its place.
const REPLACED: &str = ".replaced-";

/// The saves of one run folder.
#[derive(Debug)]
pub struct Saves {
    out: PathBuf,
    /// Digests of the saves that this process wrote, or read in full and found complete, by step.
    known: BTreeMap<u64, String>,
    /// Folders that a note has named already.
    named: BTreeSet<PathBuf>,
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
        Saves { out: out.to_path_buf(), known: BTreeMap::new(), named: BTreeSet::new() }
    }

    /// The folder of a save.
    pub fn folder(&self, step: u64) -> PathBuf {
        self.out.join(format!("{SAVE_PREFIX}{step}"))
    }

    /// Whether there are any, complete or not; if it cannot be told, there may be.
    pub(crate) fn exist(&self) -> bool {
        self.steps().map_or(true, |steps| !steps.is_empty())
    }

    /// The newest save that this process made or went on from.
    pub fn newest_known(&self) -> Option<PathBuf> {
        self.known.keys().next_back().map(|&step| self.folder(step))
    }

    /// Saves: `write` puts files into the folder it is given. Does nothing if this process has saved this step, or gone on
    /// from its save, and it is still whole. What else has the save's name is put aside under another, with a note.
    ///
    /// # Errors
    /// Whatever `write` or the file system refuses; nothing is left behind then, and what was there is there again.
    pub fn write(
        &mut self,
        step: u64,
        write: &mut dyn FnMut(&Path) -> Result<(), TrainError>,
    ) -> Result<(PathBuf, Option<String>), TrainError> {
        let target = self.folder(step);
        if let Some(digest) = self.known.get(&step)
            && manifest::verify(&target).is_ok_and(|found| found.digest == *digest)
        {
            return Ok((target, None));
        }
        self.sweep();
        let temporary = self.unfinished(step);
        let sealed = fs::create_dir(&temporary)
            .map_err(TrainError::not_saved)
            .and_then(|()| write(&temporary))
            .and_then(|()| manifest::seal(&temporary, step));
        let placed = sealed.and_then(|sealed| Ok((sealed, self.place(&temporary, &target)?)));
        if placed.is_err() {
            // The first failure is the one to report; what cannot be removed now is swept by the next save.
            drop(fs::remove_dir_all(&temporary));
        }
        let (sealed, note) = placed?;
        self.known.insert(step, sealed.digest);
        Ok((target, note))
    }

    fn unfinished(&self, step: u64) -> PathBuf {
        self.out.join(format!("{SAVE_PREFIX}{step}{UNFINISHED}{}", std::process::id()))
    }

    /// Gives a sealed folder its name. What has that name is only ever renamed.
    fn place(&self, sealed: &Path, target: &Path) -> Result<Option<String>, TrainError> {
        let mut aside = None;
        if target.symlink_metadata().is_ok() {
            let name = |number: u32| PathBuf::from(format!("{}{REPLACED}{number}", target.display()));
            let free = (1..).map(name).find(|path| path.symlink_metadata().is_err()).expect("numbers do not end");
            fs::rename(target, &free).map_err(TrainError::not_saved)?;
            aside = Some(free);
        }
        if let Err(error) = fs::rename(sealed, target) {
            if let Some(aside) = &aside {
                // The first failure is the one to report.
                drop(fs::rename(aside, target));
            }
            return Err(TrainError::not_saved(error));
        }
        fsync_folder(&self.out).map_err(TrainError::not_saved)?;
        Ok(aside.map(|aside| {
            let (target, aside) = (target.display(), aside.display());
            format!(
                "{target} was there and is not what this run saved: it is now {aside}; remove it if you do not need it"
            )
        }))
    }

    /// Removes the oldest complete saves until at most `limit` are left that are no newer than the save of update
    /// `newest`, which was just made and stays. Returns notes on folders that are none of this, each once.
    ///
    /// # Errors
    /// A folder that cannot be read or removed.
    pub fn prune(&mut self, limit: usize, newest: u64) -> Result<Vec<String>, TrainError> {
        let mut notes = Vec::new();
        let mut complete = Vec::new();
        for step in self.steps()? {
            let path = self.folder(step);
            match self.complete(step) {
                Ok(()) if step > newest => {
                    self.note(&mut notes, &path, &format!("is of a later update than {newest}, where this run is"));
                }
                Ok(()) => complete.push(step),
                Err(problem) => self.note(&mut notes, &path, &format!("is not complete ({problem})")),
            }
        }
        for name in self.other_names()? {
            let path = self.out.join(name);
            self.note(&mut notes, &path, "is no save of this program");
        }
        complete.retain(|&step| step != newest);
        let surplus = (complete.len() + 1).saturating_sub(limit.max(1));
        for step in complete.into_iter().take(surplus) {
            notes.extend(self.remove(step)?);
        }
        Ok(notes)
    }

    fn note(&mut self, notes: &mut Vec<String>, path: &Path, problem: &str) {
        if self.named.insert(path.to_path_buf()) {
            let path = path.display();
            notes.push(format!(
                "{path} {problem}: not counted for {}, and not removed",
                SettingName("save-total-limit")
            ));
        }
    }

    /// Whether a folder is the complete save of its step. Read in full once in a process, and never if it made it.
    fn complete(&mut self, step: u64) -> Result<(), String> {
        let path = self.folder(step);
        if path.is_symlink() {
            return Err("it is a link".to_string());
        }
        let digest = manifest::digest(&path)?;
        if self.known.get(&step) == Some(&digest) {
            return Ok(());
        }
        let sealed = manifest::verify(&path)?;
        self.admit(step, sealed)
    }

    /// Remembers a save that was verified, if it is of the step that its folder's name says.
    fn admit(&mut self, step: u64, sealed: Sealed) -> Result<(), String> {
        if sealed.step != step {
            return Err(format!("it is the save of step {}", sealed.step));
        }
        self.known.insert(step, sealed.digest);
        Ok(())
    }

    /// Removes a complete save; files in its folder that are not its own stay, with a note.
    fn remove(&mut self, step: u64) -> Result<Option<String>, TrainError> {
        let path = self.folder(step);
        let failed = |source| TrainError::Io { path: path.clone(), what: "remove", source };
        if manifest::has_others(&path).map_err(failed)? {
            manifest::remove_listed(&path).map_err(failed)?;
            self.named.insert(path.clone());
            return Ok(Some(format!("{} holds files that are not of the save: they are left there", path.display())));
        }
        // Whatever is left after a crash has a name that is swept.
        let leaving = self.unfinished(step);
        fs::rename(&path, &leaving).map_err(failed)?;
        fs::remove_dir_all(&leaving).map_err(failed)?;
        Ok(None)
    }

    /// The newest save that verifies, and a note on each newer one that does not.
    ///
    /// # Errors
    /// No complete save.
    pub fn latest_complete(&mut self) -> Result<(Save, Vec<String>), TrainError> {
        let mut notes = Vec::new();
        for step in self.steps()?.into_iter().rev() {
            let path = self.folder(step);
            match manifest::verify(&path).map(|sealed| self.admit(step, sealed)) {
                Ok(Ok(())) => return Ok((Save { step, path }, notes)),
                Ok(Err(problem)) => notes.push(format!("{}: {problem}: skipped", path.display())),
                Err(problem) => notes.push(format!("{} is not complete ({problem}): skipped", path.display())),
            }
        }
        let notes = notes.iter().map(|note| format!("; {note}")).collect();
        Err(TrainError::NothingToResume { out: self.out.clone(), notes })
    }

    /// A text file of the newest save that has it, complete or not, with its path.
    pub(crate) fn newest_file(&self, name: &str) -> Option<(PathBuf, String)> {
        let read = |step| {
            let path = self.folder(step).join(name);
            let text = read_text_file(&path, SETTINGS_LIMIT_BYTES).ok()?;
            Some((path, text))
        };
        self.steps().ok()?.into_iter().rev().find_map(read)
    }

    /// Steps that have a folder, complete or not, in order.
    fn steps(&self) -> Result<Vec<u64>, TrainError> {
        let mut steps: Vec<u64> = self.names()?.iter().filter_map(|name| step_of(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Names that begin as a save's and are none, nor of what this program put aside or writes.
    fn other_names(&self) -> Result<Vec<String>, TrainError> {
        let mut names = self.names()?;
        let ours = |name: &str| {
            let replaced = name.split_once(REPLACED).and_then(|(save, number)| step_of(save).and(canonical(number)));
            step_of(name).or(replaced).or(writer_of(name)).is_some()
        };
        names.retain(|name| name.starts_with(SAVE_PREFIX) && !ours(name));
        names.sort_unstable();
        Ok(names)
    }

    /// What is in the run folder, as far as it is text.
    fn names(&self) -> Result<Vec<String>, TrainError> {
        let failed = |source| TrainError::Io { path: self.out.clone(), what: "read", source };
        let entries = fs::read_dir(&self.out).map_err(failed)?;
        Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
    }

    /// Removes what processes that are gone left half-written in the run folder. To be called by whoever holds its lock.
    pub fn sweep(&self) {
        let Ok(entries) = fs::read_dir(&self.out) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let writer = name.to_str().and_then(writer_of);
            if writer.is_some_and(|process| process == u64::from(std::process::id()) || !is_alive(process)) {
                let path = entry.path();
                // A leftover that cannot be removed takes room, and nothing else.
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                drop(if is_folder { fs::remove_dir_all(path) } else { fs::remove_file(path) });
            }
        }
    }
}

/// The step of a save's name.
fn step_of(name: &str) -> Option<u64> {
    canonical(name.strip_prefix(SAVE_PREFIX)?)
}

/// A number as this program writes it.
fn canonical(digits: &str) -> Option<u64> {
    digits.parse::<u64>().ok().filter(|number| number.to_string() == digits)
}

/// The process that wrote an unfinished file or folder of this name: `checkpoint-N.tmp-PID`, `best.tmp-PID`,
/// `.remat-PID-N.tmp` or `.remat-probe-PID`. `None` of any other name.
fn writer_of(name: &str) -> Option<u64> {
    if let Some(process) = name.strip_prefix(BEST_FOLDER).and_then(|rest| rest.strip_prefix(UNFINISHED)) {
        return canonical(process);
    }
    if let Some((step, process)) = name.strip_prefix(SAVE_PREFIX).and_then(|rest| rest.split_once(UNFINISHED)) {
        return canonical(step).and_then(|_| canonical(process));
    }
    let rest = name.strip_prefix(".remat-")?;
    if let Some(process) = rest.strip_prefix("probe-") {
        return canonical(process);
    }
    let (process, number) = rest.strip_suffix(".tmp")?.split_once('-')?;
    canonical(number).and_then(|_| canonical(process))
}

/// Whether a process of this id goes. Where the system does not tell, it does not: the lock is held by this one.
fn is_alive(process: u64) -> bool {
    Path::new("/proc").join(process.to_string()).exists()
}

#[cfg(test)]
mod tests;
