//! `best/`: the adapter or model with the lowest loss of the held-out rows so far, whole or not there.
//!
//! It is written and sealed as a save is, beside the one that it replaces, and put in its place by renames. What holds at
//! every moment of a kill: `best/` is there and whole, or it stands under [`BEFORE`] and is put back by whoever writes to the
//! folder next. Invariant: what stands there that remat did not write is only ever renamed. Look next at `manifest`.

use crate::TrainError;
use crate::folder::file_names::{BEST_FILE, BEST_FOLDER};
use crate::folder::manifest;
use crate::run::held_out::Best;
use remat_formats::{SETTINGS_LIMIT_BYTES, fsync_folder, read_text_file};
use std::fs;
use std::path::{Path, PathBuf};

/// What `best/` was before, while it is replaced.
const BEFORE: &str = ".remat-best-before";

/// The folder of one run.
#[derive(Debug)]
pub(crate) struct BestFolder {
    out: PathBuf,
    /// The digest of what this process wrote there.
    known: Option<String>,
}

impl BestFolder {
    /// Of the run in `out`.
    pub(crate) fn of(out: &Path) -> Self {
        BestFolder { out: out.to_path_buf(), known: None }
    }

    /// Where it is.
    pub(crate) fn path(&self) -> PathBuf {
        self.out.join(BEST_FOLDER)
    }

    /// Whether this process wrote what is there.
    pub(crate) fn was_written(&self) -> bool {
        self.known.is_some()
    }

    /// Which evaluation it is of, if it is whole.
    pub(crate) fn read(&self) -> Option<Best> {
        let path = self.path();
        manifest::verify(&path).ok()?;
        serde_json::from_str(&read_text_file(&path.join(BEST_FILE), SETTINGS_LIMIT_BYTES).ok()?).ok()
    }

    /// Puts back, or takes away, what a kill left. To be called by whoever holds the run folder's lock.
    ///
    /// # Errors
    /// What the system refuses.
    pub(crate) fn recover(&self) -> Result<(), TrainError> {
        let (path, before) = (self.path(), self.out.join(BEFORE));
        if before.symlink_metadata().is_err() {
            return Ok(());
        }
        match path.symlink_metadata() {
            Ok(_) => fs::remove_dir_all(&before).map_err(TrainError::not_saved),
            Err(_) => fs::rename(&before, &path).map_err(TrainError::not_saved),
        }
    }

    /// Replaces what is there; `write` puts the adapter or model into the folder that it is given. A note on what stood
    /// there and is not remat's, which is put aside.
    ///
    /// # Errors
    /// Whatever `write` or the file system refuses; what was there is there again then.
    pub(crate) fn write(
        &mut self,
        best: &Best,
        write: &mut dyn FnMut(&Path) -> Result<(), TrainError>,
    ) -> Result<Option<String>, TrainError> {
        self.recover()?;
        let new = self.out.join(format!("{BEST_FOLDER}.tmp-{}", std::process::id()));
        let sealed = fs::create_dir(&new)
            .map_err(TrainError::not_saved)
            .and_then(|()| write(&new))
            .and_then(|()| fs::write(new.join(BEST_FILE), text_of(best)).map_err(TrainError::not_saved))
            .and_then(|()| manifest::seal(&new, best.step));
        let placed = sealed.and_then(|sealed| Ok((sealed, self.place(&new)?)));
        if placed.is_err() {
            // The first failure is the one to report; what cannot be removed now is swept by the next run.
            drop(fs::remove_dir_all(&new));
        }
        let (sealed, note) = placed?;
        self.known = Some(sealed.digest);
        Ok(note)
    }

    /// Gives a sealed folder its name.
    fn place(&self, new: &Path) -> Result<Option<String>, TrainError> {
        let path = self.path();
        let is_there = path.symlink_metadata().is_ok();
        let is_own = is_there && self.is_own(&path);
        let aside = if is_own { self.out.join(BEFORE) } else { self.free_name() };
        if is_there {
            fs::rename(&path, &aside).map_err(TrainError::not_saved)?;
        }
        if let Err(error) = fs::rename(new, &path) {
            if is_there {
                // The first failure is the one to report.
                drop(fs::rename(&aside, &path));
            }
            return Err(TrainError::not_saved(error));
        }
        fsync_folder(&self.out).map_err(TrainError::not_saved)?;
        if is_own {
            fs::remove_dir_all(&aside).map_err(TrainError::not_saved)?;
        }
        let (path, aside) = (path.display(), aside.display());
        let note =
            format!("{path} was there and is not what a run saved: it is now {aside}; remove it if you do not need it");
        Ok((is_there && !is_own).then_some(note))
    }

    /// Whether a folder is what a run wrote, with nothing of somebody's in it.
    fn is_own(&self, path: &Path) -> bool {
        let is_known = self.known.is_some() && manifest::digest(path).ok() == self.known;
        !path.is_symlink()
            && (is_known || manifest::verify(path).is_ok())
            && manifest::has_others(path).is_ok_and(|others| !others)
    }

    fn free_name(&self) -> PathBuf {
        let name = |number: u32| self.out.join(format!("{BEST_FOLDER}.replaced-{number}"));
        (1..).map(name).find(|path| path.symlink_metadata().is_err()).expect("numbers do not end")
    }
}

fn text_of(best: &Best) -> String {
    serde_json::to_string_pretty(best).expect("numbers have a JSON form") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(step: u64) -> Best {
        Best { step, epoch: 0.5, val_loss: 1.0 / step as f64 }
    }

    fn write(folder: &mut BestFolder, step: u64) -> Option<String> {
        let written = folder.write(&best(step), &mut |new| {
            fs::write(new.join("adapter_model.safetensors"), format!("after {step}")).map_err(TrainError::not_saved)
        });
        written.expect("written")
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).expect("exists").flatten();
        let mut names: Vec<String> = entries.map(|e| e.file_name().into_string().expect("utf-8")).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_newest_replaces_the_one_before_and_nothing_else_is_left() {
        let out = tempfile::tempdir().expect("folder");
        let mut folder = BestFolder::of(out.path());
        assert_eq!(folder.read(), None);
        for step in [3, 7] {
            assert_eq!(write(&mut folder, step), None);
            assert_eq!(BestFolder::of(out.path()).read(), Some(best(step)));
            assert_eq!(names(out.path()), [BEST_FOLDER]);
        }
        // Another process knows it by its manifest.
        assert_eq!(write(&mut BestFolder::of(out.path()), 9), None);
        assert_eq!(names(&folder.path()), ["adapter_model.safetensors", BEST_FILE, "manifest.json"]);
        fs::write(folder.path().join("adapter_model.safetensors"), "torn").expect("written");
        assert_eq!(BestFolder::of(out.path()).read(), None, "what is not whole is not taken");
    }

    #[test]
    fn a_kill_between_two_renames_loses_nothing() {
        let out = tempfile::tempdir().expect("folder");
        let mut folder = BestFolder::of(out.path());
        write(&mut folder, 3);
        fs::rename(folder.path(), out.path().join(BEFORE)).expect("renamed");
        folder.recover().expect("recovers");
        assert_eq!(folder.read(), Some(best(3)));
        // After the second rename the old one only has to go.
        fs::create_dir(out.path().join(BEFORE)).expect("made");
        folder.recover().expect("recovers");
        assert_eq!((folder.read(), names(out.path())), (Some(best(3)), vec![BEST_FOLDER.to_string()]));
    }

    #[test]
    fn a_failure_leaves_the_one_before() {
        let out = tempfile::tempdir().expect("folder");
        let mut folder = BestFolder::of(out.path());
        write(&mut folder, 3);
        folder.write(&best(4), &mut |_| Err(TrainError::not_saved("no room"))).expect_err("fails");
        assert_eq!((folder.read(), names(out.path())), (Some(best(3)), vec![BEST_FOLDER.to_string()]));
    }

    #[test]
    fn what_is_somebodys_is_put_aside_and_told() {
        let out = tempfile::tempdir().expect("folder");
        let mut folder = BestFolder::of(out.path());
        fs::create_dir(folder.path()).expect("made");
        fs::write(folder.path().join("notes.txt"), "mine").expect("written");
        let note = write(&mut folder, 3).expect("a note");
        assert!(note.contains("best.replaced-1"), "{note}");
        fs::write(folder.path().join("notes.txt"), "mine, too").expect("written");
        assert!(write(&mut folder, 4).expect("a note").contains("best.replaced-2"));
        let kept = |number: u32| fs::read_to_string(out.path().join(format!("best.replaced-{number}/notes.txt")));
        assert_eq!((kept(1).expect("kept"), kept(2).expect("kept")), ("mine".to_string(), "mine, too".to_string()));
        assert_eq!(folder.read(), Some(best(4)));
    }
}
