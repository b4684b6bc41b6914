//! The cache's layout, which is `huggingface_hub`'s: `blobs` by hash, `snapshots` of links by commit, `refs` by revision.
//!
//! ```text
//! models--org--name/blobs/HASH               a file
//!                  /blobs/HASH.incomplete    a file as far as it was fetched
//!                  /snapshots/COMMIT/PATH    a link to a blob
//!                  /refs/REVISION            the commit of a branch or tag
//! .locks/models--org--name/HASH.lock         held by who fetches a blob
//! ```
//!
//! Invariant: a blob has its name only when it is whole and its hash is right.

use crate::repository::{Repository, is_commit};
use crate::{Hub, HubError};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// A repository's place in the cache.
#[derive(Debug)]
pub(crate) struct Cached {
    folder: PathBuf,
    locks: PathBuf,
    revision: String,
}

/// A failure of the file system at a path.
pub(crate) fn failed(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> HubError {
    let path = path.to_path_buf();
    move |source| HubError::Io { path, what, source }
}

impl Cached {
    pub(crate) fn of(hub: &Hub, repository: &Repository) -> Self {
        let (name, revision) = (repository.folder_name(), repository.revision.clone());
        Cached { folder: hub.cache.join(&name), locks: hub.cache.join(".locks").join(name), revision }
    }

    /// The folder of the revision's files, if the cache has one.
    pub(crate) fn snapshot(&self) -> Option<PathBuf> {
        let of = |commit: &str| Some(self.snapshot_of(commit)).filter(|folder| folder.is_dir());
        if is_commit(&self.revision) {
            return of(&self.revision);
        }
        let path = self.folder.join("refs").join(&self.revision);
        let is_small = fs::metadata(&path).is_ok_and(|found| found.is_file() && found.len() < 100);
        let commit = is_small.then(|| fs::read_to_string(path).ok()).flatten()?;
        let commit = commit.trim();
        is_commit(commit).then(|| of(commit)).flatten()
    }

    pub(crate) fn snapshot_of(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(crate) fn blob(&self, hash: &str) -> PathBuf {
        self.folder.join("blobs").join(hash)
    }

    /// Waits until no other process fetches this blob, and keeps the others out while what it returns lives.
    pub(crate) fn lock(&self, hash: &str) -> Result<File, HubError> {
        fs::create_dir_all(&self.locks).map_err(failed(&self.locks, "create"))?;
        let path = self.locks.join(format!("{hash}.lock"));
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let file = file.map_err(failed(&path, "open"))?;
        // A file system without locks is no reason not to fetch: the blob is checked before it gets its name.
        drop(file.lock());
        Ok(file)
    }

    /// Makes the folders that blobs lie in.
    pub(crate) fn create(&self) -> Result<(), HubError> {
        let blobs = self.folder.join("blobs");
        fs::create_dir_all(&blobs).map_err(failed(&blobs, "create"))
    }

    /// Puts a blob into a snapshot under the file's path, which was checked.
    pub(crate) fn link(&self, commit: &str, file: &str, hash: &str) -> Result<(), HubError> {
        let path = self.snapshot_of(commit).join(file);
        if path.exists() {
            return Ok(());
        }
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(failed(parent, "create"))?;
        let up = "../".repeat(2 + file.matches('/').count());
        // A link that leads nowhere is left of a blob that somebody removed.
        drop(fs::remove_file(&path));
        link_or_copy(&PathBuf::from(format!("{up}blobs/{hash}")), &self.blob(hash), &path)
    }

    /// Remembers which commit the revision is. Last of all, so that a reference leads to what was fetched.
    pub(crate) fn refer(&self, commit: &str) -> Result<(), HubError> {
        if is_commit(&self.revision) {
            return Ok(());
        }
        let path = self.folder.join("refs").join(&self.revision);
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(failed(parent, "create"))?;
        let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
        fs::write(&temporary, commit).map_err(failed(&temporary, "write"))?;
        fs::rename(&temporary, &path).map_err(failed(&path, "write"))
    }
}

#[cfg(unix)]
fn link_or_copy(relative: &Path, _blob: &Path, path: &Path) -> Result<(), HubError> {
    match std::os::unix::fs::symlink(relative, path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        made => made.map_err(failed(path, "create")),
    }
}

#[cfg(not(unix))]
fn link_or_copy(_relative: &Path, blob: &Path, path: &Path) -> Result<(), HubError> {
    fs::copy(blob, path).map(drop).map_err(failed(path, "create"))
}

/// All files below a folder, links to files among them, by their paths from there with slashes; at most `limit`.
pub(crate) fn files_below(folder: &Path, limit: usize) -> Vec<String> {
    let (mut files, mut open) = (Vec::new(), vec![(folder.to_path_buf(), String::new())]);
    while let Some((path, prefix)) = open.pop() {
        for entry in fs::read_dir(path).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let name = format!("{prefix}{name}");
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                open.push((entry.path(), format!("{name}/")));
            } else if entry.path().is_file() && files.len() < limit {
                files.push(name);
            }
        }
    }
    files.sort_unstable();
    files
}
