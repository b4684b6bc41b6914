//! Names of the Hugging Face Hub where a folder or a file is asked for: what is here under that name wins, then the local
//! cache, then it is fetched, and that is shown.
//!
//! Invariant: nothing is sent for what exists here, nor for what cannot be a name of the Hub. Look next at `remat_hub`.

use crate::progress::Progress;
use crate::terminal;
use crate::units::bytes;
use remat_formats::hub_name;
use remat_hub::{Hub, HubError, Kind, Repository, Wanted};
use remat_train::{TrainConfig, TrainError};
use std::path::{Path, PathBuf};

/// Endings of files that people name in the way of `folder/file`.
const FILE_ENDINGS: [&str; 12] =
    ["jsonl", "ndjson", "json", "csv", "tsv", "txt", "md", "parquet", "arrow", "gz", "zst", "safetensors"];

/// How names are looked up.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct NameArgs {
    /// Branch, tag or commit of a --model that is named as on the Hugging Face Hub [default: main]
    #[arg(long, value_name = "REVISION")]
    revision: Option<String>,
}

impl NameArgs {
    /// The folder of a model: as given where there is one, else the repository's of that name.
    pub(crate) fn model(&self, given: &Path, wanted: Wanted) -> Result<PathBuf, TrainError> {
        let Some(repository) = self.repository(given, wanted)? else { return Ok(given.to_path_buf()) };
        fetched("model", |hub, show| hub.model(&repository, wanted, show))
    }

    /// Settings whose model, adapter and rows are files here.
    pub(crate) fn settings(&self, config: TrainConfig, wanted: Wanted) -> Result<TrainConfig, TrainError> {
        if config.model.as_os_str().is_empty() {
            if let Some(revision) = &self.revision {
                let problem = format!("{revision} needs a --model of the Hub, such as org/name");
                return Err(TrainError::BadFlag { key: "revision", problem });
            }
            return Ok(TrainConfig { data: rows(config.data)?, eval_data: rows(config.eval_data)?, ..config });
        }
        Ok(TrainConfig {
            model: self.model(&config.model, wanted)?,
            init_adapter: config.init_adapter.as_deref().map(adapter).transpose()?,
            data: rows(config.data)?,
            eval_data: rows(config.eval_data)?,
            ..config
        })
    }

    fn repository(&self, given: &Path, wanted: Wanted) -> Result<Option<Repository>, TrainError> {
        let named = given.to_str().and_then(|text| Repository::named(Kind::Model, text));
        let revision = self.revision.as_deref().filter(|_| wanted != Wanted::Adapter);
        match (named.filter(|_| !given.exists()), revision) {
            (Some(repository), Some(revision)) => repository.at(revision).map(Some).map_err(of("revision")),
            (Some(repository), None) => Ok(Some(repository)),
            (None, Some(revision)) if !given.as_os_str().is_empty() => {
                let problem = format!(
                    "{revision} needs a --model of the Hub, such as org/name; {} is a folder here, or no such name",
                    given.display()
                );
                Err(TrainError::BadFlag { key: "revision", problem })
            }
            (None, _) => Ok(None),
        }
    }
}

/// The folder of an adapter, as that of a model.
pub(crate) fn adapter(given: &Path) -> Result<PathBuf, TrainError> {
    NameArgs::default().model(given, Wanted::Adapter)
}

/// Whether a text is a model's name on the Hub.
pub(crate) fn is_hub_model(name: &str) -> bool {
    Repository::named(Kind::Model, name).is_some()
}

/// The folder of a model that an adapter names, at the revision that it names.
pub(crate) fn model_at(name: &str, revision: Option<&str>) -> Result<PathBuf, TrainError> {
    NameArgs { revision: revision.map(str::to_string) }.model(Path::new(name), Wanted::Weights)
}

/// Files of rows: those that are here as given, and for `org/name`, `org/name/PART` and either with `:SHARE` the
/// repository's, each with the share.
pub(crate) fn rows(given: Vec<PathBuf>) -> Result<Vec<PathBuf>, TrainError> {
    let mut files = Vec::with_capacity(given.len());
    for path in given {
        let file = remat_data::file_of(&path);
        let named = if file.exists() { None } else { data_set(&file) };
        let Some((repository, part)) = named else {
            files.push(path);
            continue;
        };
        let (whole, name) = (path.to_string_lossy(), file.to_string_lossy());
        let share = whole.strip_prefix(name.as_ref()).unwrap_or_default();
        let found = fetched("data", |hub, show| hub.rows(&repository, &part, show))?;
        files.extend(found.iter().map(|file| PathBuf::from(format!("{}{share}", file.display()))));
    }
    Ok(files)
}

/// The data set that a path that leads nowhere names, and the part of it. A folder that is here makes it a slip.
fn data_set(path: &Path) -> Option<(Repository, String)> {
    let text = path.to_str()?;
    let mut parts = text.splitn(3, '/');
    let (organisation, name, part) = (parts.next()?, parts.next()?, parts.next());
    let is_file = part.is_none() && FILE_ENDINGS.contains(&name.rsplit_once('.').map_or("", |(_, ending)| ending));
    if is_file || Path::new(organisation).is_dir() {
        return None;
    }
    let repository = Repository::named(Kind::Dataset, &format!("{organisation}/{name}"))?;
    Some((repository, part.unwrap_or_default().to_string()))
}

/// A model's folder as people know it: by its name on the Hub, where it is of the cache.
pub(crate) fn shown(folder: &Path) -> String {
    match hub_name(folder) {
        Some((name, commit)) => format!("{name} at {}", &commit[..8]),
        None => folder.display().to_string(),
    }
}

fn of(key: &'static str) -> impl Fn(HubError) -> TrainError {
    move |source| TrainError::Hub { key, source }
}

/// Asks the Hub, and shows how far it is.
fn fetched<T>(
    key: &'static str,
    ask: impl FnOnce(&Hub, &mut dyn FnMut(remat_hub::Progress<'_>)) -> Result<T, HubError>,
) -> Result<T, TrainError> {
    let mut progress = Progress::new();
    let mut show = |at: remat_hub::Progress<'_>| {
        let text = format!("fetching {} · {} of {}", at.file, bytes(at.done_bytes), bytes(at.total_bytes));
        progress.at(&terminal::visible(&text), at.done_bytes == at.total_bytes);
    };
    Hub::from_env().and_then(|hub| ask(&hub, &mut show)).map_err(of(key))
}
