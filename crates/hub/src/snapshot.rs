//! From a name to files: what the cache has is taken as it is; what it lacks is listed, fetched and linked.
//!
//! Invariant: `refs` leads to a commit only after the files that were asked for are there.

use crate::cache::{Cached, files_below};
use crate::dataset_files::{missing_shard, rows_of};
use crate::listing::Listing;
use crate::model_files::{INDEX, TOKENIZER, Wanted, chosen, missing, shards};
use crate::repository::Repository;
use crate::transfer::Transfer;
use crate::{Hub, HubError};
use std::fs;
use std::path::{Path, PathBuf};

/// Most files of a folder of the cache that are looked at.
const MOST_FILES: usize = 100_000;

/// How far fetching is.
#[derive(Debug, Clone, Copy)]
pub struct Progress<'a> {
    /// The file that is coming, by its path in the repository.
    pub file: &'a str,
    /// Bytes of all files that are there.
    pub done_bytes: u64,
    /// Bytes of all files that are fetched together.
    pub total_bytes: u64,
}

impl Hub {
    /// The folder of a model or an adapter.
    ///
    /// # Errors
    /// A repository that is not there, is not whole, or cannot be fetched.
    pub fn model(
        &self,
        repository: &Repository,
        wanted: Wanted,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<PathBuf, HubError> {
        let cached = Cached::of(self, repository);
        let found = cached.snapshot();
        let lacking = found.as_deref().map(|folder| missing(folder, wanted));
        match (found, lacking) {
            (Some(folder), Some(None)) if self.offline || knows_its_tokenizer(&folder) => return Ok(folder),
            (Some(snapshot), Some(Some(missing))) if self.offline => {
                return Err(HubError::Incomplete { name: repository.id.clone(), snapshot, missing });
            }
            _ => {}
        }
        let mut fetch = Fetch::begin(self, repository, cached)?;
        let files = chosen(&repository.id, &fetch.listing, wanted)?;
        fetch.all(&files, on_progress)?;
        if files.iter().any(|file| file == INDEX) {
            let index = fetch.folder().join(INDEX);
            let shards = shards(&index).map_err(|problem| {
                let problem = format!("{INDEX} makes no sense: {problem}");
                HubError::Hostile { name: repository.id.clone(), problem }
            })?;
            fetch.all(&Vec::from_iter(shards), on_progress)?;
        }
        if fetch.listing.get(TOKENIZER).is_none() {
            // As `huggingface_hub` remembers what a commit has not.
            drop(fs::create_dir_all(fetch.absent()).and_then(|()| fs::write(fetch.absent().join(TOKENIZER), "")));
        }
        fetch.end()
    }

    /// The files of rows of a data set: of `part`, which is empty or names a file, a folder, a split, or a folder's split.
    ///
    /// # Errors
    /// As [`Hub::model`]; a part that is not clear.
    pub fn rows(
        &self,
        repository: &Repository,
        part: &str,
        on_progress: &mut dyn FnMut(Progress<'_>),
    ) -> Result<Vec<PathBuf>, HubError> {
        let cached = Cached::of(self, repository);
        if let Some(folder) = cached.snapshot() {
            let files = files_below(&folder, MOST_FILES);
            let paths: Vec<&str> = files.iter().map(String::as_str).collect();
            let rows = rows_of(&paths, part);
            // One file that was named is not a set of shards.
            let lacking = |rows: &Vec<String>| missing_shard(rows).filter(|_| rows[..] != [part.to_string()]);
            match rows.as_ref().map(lacking) {
                Ok(None) => return Ok(rows.iter().flatten().map(|file| folder.join(file)).collect()),
                Ok(Some(missing)) if self.offline => {
                    return Err(HubError::Incomplete { name: repository.id.clone(), snapshot: folder, missing });
                }
                Err(problem) if self.offline => {
                    let problem = format!("in the cache {problem}");
                    return Err(HubError::Name { name: repository.id.clone(), problem });
                }
                // What is missing may be somewhere else.
                _ => {}
            }
        }
        let mut fetch = Fetch::begin(self, repository, cached)?;
        let unclear = |problem| HubError::Name { name: repository.id.clone(), problem };
        let files = rows_of(&fetch.listing.paths(), part).map_err(unclear)?;
        fetch.all(&files, on_progress)?;
        let folder = fetch.end()?;
        Ok(files.iter().map(|file| folder.join(file)).collect())
    }
}

/// Whether a folder has a tokenizer, or it is known that its commit has none.
fn knows_its_tokenizer(folder: &Path) -> bool {
    let commit = folder.file_name().unwrap_or_default();
    let absent = folder.ancestors().nth(2).map(|repository| repository.join(".no_exist").join(commit).join(TOKENIZER));
    folder.join(TOKENIZER).is_file() || absent.is_some_and(|path| path.is_file())
}

/// Fetching of one commit.
struct Fetch<'a> {
    repository: &'a Repository,
    cached: Cached,
    transfer: Transfer<'a>,
    listing: Listing,
}

impl<'a> Fetch<'a> {
    /// Asks the endpoint what there is.
    fn begin(hub: &'a Hub, repository: &'a Repository, cached: Cached) -> Result<Self, HubError> {
        if hub.offline {
            return Err(HubError::Offline { name: repository.id.clone(), cache: hub.cache.clone() });
        }
        let transfer = Transfer::new(hub, repository);
        let listing = transfer.list()?;
        cached.create()?;
        Ok(Fetch { repository, cached, transfer, listing })
    }

    fn folder(&self) -> PathBuf {
        self.cached.snapshot_of(&self.listing.commit)
    }

    /// Where it is remembered which files the commit has not.
    fn absent(&self) -> PathBuf {
        let snapshots = self.folder();
        snapshots.ancestors().nth(2).unwrap_or(&snapshots).join(".no_exist").join(&self.listing.commit)
    }

    /// Fetches these files, each of which the listing has to have.
    fn all(&mut self, files: &[String], on_progress: &mut dyn FnMut(Progress<'_>)) -> Result<(), HubError> {
        let entry = |file: &String| {
            self.listing.get(file).ok_or_else(|| {
                let problem = format!("{INDEX} names {file}, which the repository has not");
                HubError::Hostile { name: self.repository.id.clone(), problem }
            })
        };
        let entries = files.iter().map(entry).collect::<Result<Vec<_>, _>>()?;
        let total_bytes = entries.iter().fold(0, |sum: u64, entry| sum.saturating_add(entry.bytes));
        let (commit, mut before) = (&self.listing.commit, 0);
        for entry in entries {
            let mut on_bytes = |bytes: u64| {
                on_progress(Progress { file: &entry.path, done_bytes: before + bytes, total_bytes });
            };
            self.transfer.blob(&self.cached, commit, entry, &mut on_bytes)?;
            self.cached.link(commit, &entry.path, entry.hash.hex())?;
            before += entry.bytes;
        }
        Ok(())
    }

    /// Remembers the revision's commit.
    fn end(self) -> Result<PathBuf, HubError> {
        self.cached.refer(&self.listing.commit)?;
        Ok(self.folder())
    }
}
