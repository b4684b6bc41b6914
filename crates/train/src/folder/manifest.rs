//! `manifest.json` of a save: which files it has, how long they are and what they hash to.
//!
//! Invariant: a folder that [`verify`] accepts holds exactly what was sealed: each file that the manifest lists, byte for
//! byte. Nothing here follows a name out of the folder. Look next at `saves` for when folders are sealed and verified.

use crate::TrainError;
use crate::folder::file_names::MANIFEST;
use remat_formats::{FormatsError, files_below, fsync_folder, open_file, sha256_file};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Component, Path};

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

/// What a save is known by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sealed {
    /// Updates made before it.
    pub(crate) step: u64,
    /// The manifest's own hash, and through it that of everything in the save.
    pub(crate) digest: String,
}

/// Flushes every file of a folder, then writes the manifest and flushes the folder.
pub(crate) fn seal(folder: &Path, step: u64) -> Result<Sealed, TrainError> {
    let mut files = BTreeMap::new();
    for name in files_below(folder).map_err(TrainError::not_saved)? {
        File::open(folder.join(&name)).and_then(|file| file.sync_all()).map_err(TrainError::not_saved)?;
        let found = record(folder, &name).map_err(TrainError::not_saved)?;
        files.insert(name, found);
    }
    let text = serde_json::to_string_pretty(&Manifest { schema: 1, step, files }).map_err(TrainError::not_saved)?;
    let path = folder.join(MANIFEST);
    let written = File::create_new(&path)
        .and_then(|mut manifest| manifest.write_all(text.as_bytes()).and_then(|()| manifest.sync_all()));
    written.map_err(TrainError::not_saved)?;
    fsync_folder(folder).map_err(TrainError::not_saved)?;
    Ok(Sealed { step, digest: sha256_file(&path).map_err(TrainError::not_saved)? })
}

/// Checks a save against its manifest; the error says what is wrong.
pub(crate) fn verify(folder: &Path) -> Result<Sealed, String> {
    let digest = digest(folder)?;
    let manifest = read(folder)?;
    for (name, expected) in &manifest.files {
        let found = record(folder, name).map_err(|error| format!("{name}: {error}"))?;
        if found.bytes != expected.bytes {
            return Err(format!("{name} has {} bytes instead of {}", found.bytes, expected.bytes));
        }
        if found != *expected {
            return Err(format!("{name} has another hash than {MANIFEST} says"));
        }
    }
    Ok(Sealed { step: manifest.step, digest })
}

/// The manifest's hash, which costs next to nothing; the error says what is wrong.
pub(crate) fn digest(folder: &Path) -> Result<String, String> {
    sha256_file(&folder.join(MANIFEST)).map_err(|error| format!("{MANIFEST}: {error}"))
}

fn read(folder: &Path) -> Result<Manifest, String> {
    let mut text = String::new();
    open_file(&folder.join(MANIFEST))
        .and_then(|(file, _)| file.take(MOST_MANIFEST_BYTES).read_to_string(&mut text))
        .map_err(|error| format!("{MANIFEST}: {error}"))?;
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| format!("{MANIFEST}: {error}"))?;
    if manifest.schema != 1 {
        return Err(format!("{MANIFEST}: schema {} is not known to this version", manifest.schema));
    }
    let is_inside = |name: &str| Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    match manifest.files.keys().find(|name| name.contains('\\') || name.is_empty() || !is_inside(name)) {
        Some(name) => Err(format!("{MANIFEST}: \"{name}\" is not a file name")),
        None => Ok(manifest),
    }
}

fn record(folder: &Path, name: &str) -> Result<FileRecord, FormatsError> {
    let path = &folder.join(name);
    if let Some(between) = folders_of(name).map(|between| folder.join(between)).find(|path| path.is_symlink()) {
        let source = io::Error::other("it is a link and leads out of the save");
        return Err(FormatsError::Io { path: between, action: "read the folder", source });
    }
    let sha256 = sha256_file(path)?;
    let bytes = fs::metadata(path).map_or(0, |metadata| metadata.len());
    Ok(FileRecord { bytes, sha256 })
}

/// Whether a save's folder has something in it that the manifest does not list.
pub(crate) fn has_others(folder: &Path) -> io::Result<bool> {
    let listed = listed(folder)?;
    Ok(files_below(folder)?.iter().any(|name| !listed.contains(name)))
}

/// Removes the files that the manifest lists, then the manifest, and leaves whatever else is there.
pub(crate) fn remove_listed(folder: &Path) -> io::Result<()> {
    // The manifest goes last: as long as it is there, this removal can be made again.
    for name in listed(folder)?.iter().filter(|name| *name != MANIFEST) {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // A folder goes with the last file in it.
    listed(folder)?.iter().flat_map(|name| folders_of(name)).for_each(|path| drop(fs::remove_dir(folder.join(path))));
    fs::remove_file(folder.join(MANIFEST))
}

/// The folders that a file of a save stands in, within that of the save.
fn folders_of(name: &str) -> impl Iterator<Item = &Path> {
    Path::new(name).ancestors().skip(1).filter(|path| !path.as_os_str().is_empty())
}

/// Names of the files of a save, the manifest's too.
fn listed(folder: &Path) -> io::Result<BTreeSet<String>> {
    let manifest = read(folder).map_err(io::Error::other)?;
    Ok(manifest.files.into_keys().chain([MANIFEST.to_string()]).collect())
}
