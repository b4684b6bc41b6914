//! The flags that `train` and `plan` share: the settings of a run, and the file that holds them.
//!
//! Invariant: a flag wins over `--config`, and both mean the same under every verb.

use crate::names::NameArgs;
use clap::ArgMatches;
use clap::parser::ValueSource;
use remat_data::{BadRows, Column, RowOptions};
use remat_hub::Wanted;
use remat_train::{TrainConfig, TrainError, read_config_file};
use std::path::{Path, PathBuf};

/// Settings from flags, and the file beneath them.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct SettingsArgs {
    #[command(flatten)]
    config: TrainConfig,

    /// TOML file with the flags' names as keys; flags win over it
    #[arg(long = "config", value_name = "FILE")]
    config_file: Option<PathBuf>,

    #[command(flatten)]
    names: NameArgs,
}

/// How rows are read, for the verbs that train nothing; `train` has these among its settings.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct RowArgs {
    /// Columns of the rows under other names than a format's, such as prompt=question,completion=answer
    #[arg(long, value_name = "NAME=COLUMN", value_delimiter = ',')]
    columns: Vec<Column>,

    /// Keys of the rows that mean nothing for training, beside those that are known to
    #[arg(long, value_name = "KEYS", value_delimiter = ',')]
    ignore_columns: Vec<String>,

    /// What becomes of rows that cannot be read or encoded: stop, drop up to half of a file's, or drop:SHARE
    #[arg(long, value_name = "CHOICE", default_value = "stop")]
    bad_rows: BadRows,
}

/// A number of threads, from a flag.
pub(crate) fn threads(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(threads @ 1..=1024) => Ok(threads),
        _ => Err("must be from 1 to 1024".to_string()),
    }
}

impl RowArgs {
    pub(crate) fn options(&self) -> RowOptions {
        let (columns, ignored) = (self.columns.clone(), self.ignore_columns.clone());
        RowOptions { columns, ignored, bad_rows: self.bad_rows, folder: None }
    }
}

impl SettingsArgs {
    /// The file beneath the flags, if one was named.
    pub(crate) fn file(&self) -> Option<&Path> {
        self.config_file.as_deref()
    }

    /// How names of the Hub are looked up.
    pub(crate) fn names(&self) -> &NameArgs {
        &self.names
    }

    /// The settings of both. `matches` are those of the verb, and say which flags were given.
    pub(crate) fn merged(self, matches: &ArgMatches) -> Result<TrainConfig, TrainError> {
        match self.config_file.clone() {
            Some(path) => Ok(self.over(&path, &read_config_file(&path)?, matches)?.config),
            None => Ok(self.config),
        }
    }

    /// The same with folders and files in place of names of the Hub, of which so much is wanted. Nothing is asked of the
    /// Hub for a run that is not one.
    pub(crate) fn found(self, matches: &ArgMatches, wanted: Wanted) -> Result<TrainConfig, TrainError> {
        let names = self.names.clone();
        names.settings(self.merged(matches)?, wanted)
    }

    /// With the settings of another file, which holds `text`, beneath the flags.
    pub(crate) fn over(self, path: &Path, text: &str, matches: &ArgMatches) -> Result<Self, TrainError> {
        let is_given = |key: &str| matches.value_source(&key.replace('-', "_")) == Some(ValueSource::CommandLine);
        let config = self.config.overlaid(path, text, &is_given)?;
        Ok(SettingsArgs { config, ..self })
    }
}
