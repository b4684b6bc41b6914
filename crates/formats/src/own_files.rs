//! The files of a folder that remat wrote, by a listing kept there; and how a new result takes the place of an old one.
//!
//! Only what is listed is ever removed or replaced; what a person put into the folder stays. A name is listed just before
//! its file is written, so a kill leaves no file that nobody knows.
//!
//! A result is a few files of which one, the head (`adapter_config.json`, `config.json`), makes the folder an adapter or a
//! model. [`OwnFiles::install`] brings in a new one. What holds at every moment of a kill or failure:
//!
//! | until | in place | elsewhere |
//! |---|---|---|
//! | the new result is whole and on disk | the old one | the new one, growing, in `.remat-new` |
//! | its last file is renamed, if at most one replaces another (as with the settings of the old run) | the old one | the new one |
//! | its last file is renamed, if several do: a few renames | neither, and no head, so that nobody takes it for whole | both, in `.remat-old` and `.remat-new`, as far as they are not in place |
//! | the end | the new one | what is left of the old one |
//!
//! A failure that is no kill puts the old one back at once. After a kill in the third row whoever reads the folder is told
//! ([`remedy`]), and [`OwnFiles::recover`] puts it back, which the next command that writes to the folder calls first.
//! Invariant: neither follows a link out of the folder.

use crate::FormatsError;
use crate::atomic::{fsync_folder, write_atomic};
use crate::json::{CONFIG_LIMIT_BYTES, parse, read_text};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fs::{self, File, Metadata, TryLockError};
use std::io::{self, ErrorKind, Read};
use std::path::{Component, Path, PathBuf};

/// The listing's name.
pub const LISTING_FILE: &str = ".remat-files.json";
/// The new result, until it is whole.
const NEW: &str = ".remat-new";
/// The old result, until the new one is in place.
const OLD: &str = ".remat-old";
/// What makes a folder an adapter or a model.
const HEADS: [&str; 2] = ["adapter_config.json", "config.json"];
/// Files are compared in pieces of this size.
const PIECE_BYTES: usize = 1 << 14;

#[derive(Debug, Serialize, Deserialize)]
struct Listing {
    schema: u32,
    files: BTreeSet<String>,
}

/// The files of one folder that remat wrote.
#[derive(Debug, Clone)]
pub struct OwnFiles {
    folder: PathBuf,
    files: BTreeSet<String>,
}

impl OwnFiles {
    /// As the folder's listing says; `None` where there is no listing.
    ///
    /// # Errors
    /// A listing that cannot be read.
    pub fn read(folder: &Path) -> Result<Option<Self>, FormatsError> {
        let path = folder.join(LISTING_FILE);
        if !folder.is_dir() {
            return Ok(None);
        }
        let text = match read_text(&path, CONFIG_LIMIT_BYTES, "") {
            Ok(text) => text,
            Err(FormatsError::Missing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let damaged = |problem: String| {
            let problem = format!("{problem}; it lists what remat wrote there. Remove it, or choose another folder");
            FormatsError::malformed(&path, problem)
        };
        let listing: Listing = parse(&path, &text).map_err(|error| damaged(error.to_string()))?;
        if listing.schema != 1 {
            return Err(damaged(format!("schema {} is not known to this version", listing.schema)));
        }
        if let Some(name) = listing.files.iter().find(|name| !is_inside(name)) {
            return Err(damaged(format!("{name:?} is no file of the folder")));
        }
        Ok(Some(OwnFiles { folder: folder.to_path_buf(), files: listing.files }))
    }

    /// These, whatever a listing says: of a folder that was written before there were listings, or of a new one.
    pub fn of<S: Into<String>>(folder: &Path, files: impl IntoIterator<Item = S>) -> Self {
        OwnFiles { folder: folder.to_path_buf(), files: files.into_iter().map(Into::into).collect() }
    }

    /// Whether there is a file of this name, and remat wrote it; of a folder, whether it wrote all that is in it.
    pub fn holds(&self, name: &str) -> bool {
        let path = self.folder.join(name);
        if is_folder(&path) {
            let within = files_below(&path).unwrap_or_default();
            return !within.is_empty() && within.iter().all(|file| self.holds(&format!("{name}/{file}")));
        }
        // A folder between that is a link leads to somebody's files.
        self.files.contains(name)
            && self.is_there(name)
            && folders_of(name).all(|path| is_folder(&self.folder.join(path)))
    }

    /// Whether what stands where a folder of this name's would be is something else, such as a link.
    fn leads_out(&self, name: &str) -> bool {
        folders_of(name)
            .map(|path| self.folder.join(path))
            .any(|path| path.symlink_metadata().is_ok() && !is_folder(&path))
    }

    /// The first of these names under which there is something that remat did not write.
    pub fn first_foreign<'n>(&self, names: impl IntoIterator<Item = &'n str>) -> Option<&'n str> {
        names.into_iter().find(|name| self.leads_out(name) || (self.is_there(name) && !self.holds(name)))
    }

    /// As [`first_foreign`](Self::first_foreign), as an error of the flag that names the folder.
    ///
    /// # Errors
    /// Something there that remat did not write.
    pub fn refuse_foreign<'n>(&self, flag: &str, names: impl IntoIterator<Item = &'n str>) -> Result<(), FormatsError> {
        match self.first_foreign(names) {
            Some(name) => Err(FormatsError::foreign(flag, &self.folder, name)),
            None => Ok(()),
        }
    }

    /// Lists files that are about to be written.
    ///
    /// # Errors
    /// A listing that cannot be written.
    pub fn add<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> Result<(), FormatsError> {
        let before = self.files.len();
        self.files.extend(names.into_iter().map(str::to_string));
        if self.files.len() == before && self.folder.join(LISTING_FILE).is_file() {
            return Ok(());
        }
        self.write_listing()
    }

    /// Removes these files, as far as they are there and remat's.
    ///
    /// # Errors
    /// A file that cannot be removed.
    pub fn remove<'n>(&mut self, names: impl IntoIterator<Item = &'n str>) -> Result<(), FormatsError> {
        for name in names {
            for file in self.files_of(name) {
                remove_file(&self.folder.join(&file))?;
                self.files.remove(&file);
            }
        }
        self.write_listing()
    }

    /// Removes what an interrupted [`install`](Self::install) left; where it had not come to its end, the old result is
    /// put back. Call it under the folder's lock.
    ///
    /// # Errors
    /// What the system refuses; call it again then.
    pub fn recover(&self) -> Result<(), FormatsError> {
        let (old, new) = (self.folder.join(OLD), self.folder.join(NEW));
        let placed_all = files_in(&new)?.is_empty();
        if !placed_all {
            let mut names = files_in(&old)?;
            // The head last, as when a result is put in place.
            names.sort_by_key(|name| HEADS.contains(&name.as_str()));
            for name in names {
                rename(&old.join(&name), &self.folder.join(&name))?;
            }
            fsync_folder(&self.folder)?;
        }
        for folder in [new, old] {
            // Both are remat's own, whole. A link of that name goes, what it leads to does not.
            match fs::remove_dir_all(&folder) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(FormatsError::not_written(&folder, "remove the folder")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Puts a new result in place of what is there of `results`, the names that a result's files and folders may have: `write` puts
    /// it into the folder that it is given. Files of `results` that the new one does not have go with the old one.
    ///
    /// # Errors
    /// What `write` returns or the system refuses; the old result is in place then. A file that somebody put under one
    /// of the names meanwhile is not replaced: the new result stays in `.remat-new`.
    pub fn install<E: From<FormatsError>>(
        &mut self,
        results: &[&str],
        write: &mut dyn FnMut(&Path) -> Result<(), E>,
    ) -> Result<(), E> {
        self.recover()?;
        let new = self.folder.join(NEW);
        fs::create_dir(&new).map_err(FormatsError::not_written(&new, "create the folder"))?;
        let written = write(&new).and_then(|()| Ok(fsync_folder(&new)?));
        if let Err(error) = written {
            // The write has failed already; what is left is removed by the next command.
            drop(fs::remove_dir_all(&new));
            return Err(error);
        }
        let names = files_in(&new)?;
        if let Some(name) = self.first_foreign(names.iter().map(String::as_str)) {
            let problem = format!(
                "something else was put there meanwhile, and is not replaced; what was to be written is complete in {}",
                new.display()
            );
            return Err(FormatsError::NotWritten {
                path: self.folder.join(name),
                action: "replace it",
                source: io::Error::new(ErrorKind::AlreadyExists, problem),
            }
            .into());
        }
        let stale = results.iter().flat_map(|name| self.files_of(name)).filter(|name| !names.contains(name));
        let stale: Vec<String> = stale.collect();
        self.add(names.iter().map(String::as_str))?;
        if let Err(error) = self.place(&names, &stale) {
            // The first failure is the one to report; if the old result cannot be put back now, the next command does.
            drop(self.recover());
            return Err(error.into());
        }
        self.files.retain(|name| !stale.contains(name));
        Ok(self.write_listing()?)
    }

    /// Renames the new files into place, the head last, and takes the old ones away.
    fn place(&self, names: &[String], stale: &[String]) -> Result<(), FormatsError> {
        let (old, new) = (self.folder.join(OLD), self.folder.join(NEW));
        let is_head = |name: &&String| HEADS.contains(&name.as_str());
        let is_same = |name: &&String| !is_head(name) && same_bytes(&new.join(name), &self.folder.join(name));
        // What stays as it is takes no part in what follows.
        names.iter().filter(is_same).try_for_each(|name| remove_file(&new.join(name)))?;
        let names: Vec<String> = files_in(&new)?;
        let replaced = |name: &&String| self.is_there(name) && !same_bytes(&new.join(name), &self.folder.join(name));
        let changed: Vec<&String> = names.iter().filter(replaced).collect();
        // With one changed file and a head that stays, a single rename makes the old result the new one.
        if changed.len() > 1 || changed.iter().any(is_head) {
            fs::create_dir(&old).map_err(FormatsError::not_written(&old, "create the folder"))?;
            let heads = names.iter().filter(is_head).filter(|name| self.is_there(name));
            for name in heads.chain(changed.iter().copied().filter(|name| !is_head(name))) {
                rename(&self.folder.join(name), &old.join(name))?;
            }
        }
        let (heads, others): (Vec<&String>, Vec<&String>) = names.iter().partition(is_head);
        for name in others.into_iter().chain(heads) {
            rename(&new.join(name), &self.folder.join(name))?;
        }
        let folders: BTreeSet<&Path> = names.iter().flat_map(|name| folders_of(name)).collect();
        folders.into_iter().try_for_each(|folder| fsync_folder(&self.folder.join(folder)))?;
        fsync_folder(&self.folder)?;
        let (heads, others): (Vec<&String>, Vec<&String>) = stale.iter().partition(is_head);
        heads.into_iter().chain(others).try_for_each(|name| remove_file(&self.folder.join(name)))?;
        // A folder goes with the last file in it; one that holds more stays.
        stale.iter().flat_map(|name| folders_of(name)).for_each(|path| drop(fs::remove_dir(self.folder.join(path))));
        self.recover()
    }

    /// The file of this name, or those of a folder, as far as they are there and remat's.
    fn files_of(&self, name: &str) -> Vec<String> {
        let within = |file: &&String| *file == name || Path::new(file).strip_prefix(name).is_ok();
        let is_held = |file: &&String| self.holds(file) && !is_folder(&self.folder.join(file));
        self.files.iter().filter(within).filter(is_held).cloned().collect()
    }

    fn write_listing(&self) -> Result<(), FormatsError> {
        let listing = Listing { schema: 1, files: self.files.clone() };
        let text = serde_json::to_string_pretty(&listing).expect("names are JSON");
        write_atomic(&self.folder.join(LISTING_FILE), format!("{text}\n").as_bytes())
    }

    fn is_there(&self, name: &str) -> bool {
        self.folder.join(name).symlink_metadata().is_ok()
    }
}

/// What to do about a head that is not there: `remedy`, unless a kill left the folder between an old and a new result.
pub(crate) fn remedy(folder: &Path, remedy: &'static str) -> &'static str {
    if is_folder(&folder.join(OLD)) {
        "a command that was to replace it was killed in between: give that command again, or move the files in .remat-old \
         back"
    } else {
        remedy
    }
}

/// Locks a folder for as long as the file is open; the system lets go of it when the process ends.
///
/// # Errors
/// Another process holds it; a file system without locks.
pub fn lock_folder(folder: &Path) -> Result<File, TryLockError> {
    let file = File::open(folder).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Whether it is a folder, and no link to one.
fn is_folder(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_dir())
}

/// Whether a name of a listing stays in the folder.
fn is_inside(name: &str) -> bool {
    !name.is_empty() && Path::new(name).components().all(|part| matches!(part, Component::Normal(_)))
}

/// The folders that a name stands in, within that of the listing.
fn folders_of(name: &str) -> impl Iterator<Item = &Path> {
    Path::new(name).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty())
}

/// The files of a folder and of those in it; none where there is no folder.
fn files_in(folder: &Path) -> Result<Vec<String>, FormatsError> {
    if !is_folder(folder) {
        return Ok(Vec::new());
    }
    files_below(folder).map_err(FormatsError::io(folder, "read the folder"))
}

/// Names of all that is below a folder and no folder, with `/` between, in order. Links are named and not followed.
///
/// # Errors
/// A folder that cannot be read.
pub fn files_below(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        match entry.file_type()?.is_dir() {
            true => names.extend(files_below(&entry.path())?.iter().map(|below| format!("{name}/{below}"))),
            false => names.push(name),
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// Whether both are files of the same bytes, read piece by piece: weights may be larger than memory.
fn same_bytes(a: &Path, b: &Path) -> bool {
    let size = |path: &Path| path.symlink_metadata().ok().filter(Metadata::is_file).map(|found| found.len());
    let Some(mut left) = size(a).filter(|_| size(a) == size(b)) else { return false };
    let (Ok(mut a), Ok(mut b)) = (File::open(a), File::open(b)) else { return false };
    let mut pieces = [[0; PIECE_BYTES]; 2];
    while left > 0 {
        let length = left.min(PIECE_BYTES as u64) as usize;
        let [piece, other] = &mut pieces;
        let read = a.read_exact(&mut piece[..length]).and_then(|()| b.read_exact(&mut other[..length]));
        if read.is_err() || piece[..length] != other[..length] {
            return false;
        }
        left -= length as u64;
    }
    true
}

fn rename(from: &Path, to: &Path) -> Result<(), FormatsError> {
    let folder = to.parent().unwrap_or(Path::new("."));
    let named = fs::create_dir_all(folder).and_then(|()| fs::rename(from, to));
    named.map_err(FormatsError::not_written(to, "give the file its name"))
}

fn remove_file(path: &Path) -> Result<(), FormatsError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(FormatsError::not_written(path, "remove the file")(error))
        }
        _ => Ok(()),
    }
}
