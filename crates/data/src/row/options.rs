//! How rows are read, and how a user writes it down: `stop`, `drop` or `drop:0.1` for bad rows, `rows.jsonl:0.3` for a share of
//! a file. Invariant: what is parsed here prints as it was written.

use super::column::Column;
use super::file_rows::FileRows;
use super::json_text::listed;
use super::keys;
use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The largest share of bad rows that are dropped where none is given.
pub const DEFAULT_BAD_SHARE: f64 = 0.5;

/// How rows are read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct RowOptions {
    /// Columns under other names than a format's.
    pub columns: Vec<Column>,
    /// Keys that mean nothing for training, beside those that are known to.
    pub ignored: Vec<String>,
    /// What becomes of bad rows.
    pub bad_rows: BadRows,
    /// Folder on a disk for what is long, in files without names; the system's for such files if none is given.
    pub folder: Option<PathBuf>,
}

/// What becomes of a row that cannot be read or encoded.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum BadRows {
    /// It is an error.
    #[default]
    Stop,
    /// It is dropped, counted and told; an error if more than this share of a file's rows is bad.
    Drop {
        /// At most 1.
        most: f64,
    },
}

impl RowOptions {
    /// The key that a written one is read as: the one its column was mapped to, or a known one in any case.
    pub(super) fn renamed(&self, written: &str) -> String {
        let plain = |key: &str| key.trim().to_lowercase();
        let key = plain(written);
        let mapped = self.columns.iter().find(|mapped| mapped.column == written);
        let mapped = mapped.or_else(|| self.columns.iter().find(|mapped| plain(&mapped.column) == key));
        // What is not known stays as it is written, for the messages that name it.
        let own = || if keys::is_known(&key) { key.clone() } else { written.to_string() };
        mapped.map_or_else(own, |mapped| mapped.name.clone())
    }

    /// Refuses mapped columns that none of the files had: a slip would else change nothing and say nothing.
    pub fn check_columns<'f>(&self, mut files: impl Iterator<Item = &'f FileRows> + Clone) -> Result<(), DataError> {
        let seen = |mapped: &Column| files.clone().any(|file| file.columns.contains(mapped));
        let lost: Vec<&str> =
            self.columns.iter().filter(|mapped| !seen(mapped)).map(|mapped| mapped.column.as_str()).collect();
        match files.next() {
            Some(_) if !lost.is_empty() => Err(DataError::NoSuchColumns { columns: listed(lost.into_iter()) }),
            _ => Ok(()),
        }
    }

    pub(crate) fn ignores(&self, key: &str) -> bool {
        let plain = |key: &str| key.trim().to_lowercase();
        self.ignored.iter().any(|ignored| plain(ignored) == plain(key))
    }
}

impl FromStr for BadRows {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (text, text.strip_prefix("drop:")) {
            ("stop", _) => Ok(BadRows::Stop),
            ("drop", _) => Ok(BadRows::Drop { most: DEFAULT_BAD_SHARE }),
            (_, Some(share)) => match share.parse::<f64>() {
                Ok(most) if (0.0..=1.0).contains(&most) => Ok(BadRows::Drop { most }),
                _ => Err(format!("`{share}` is no share of a file's rows; give a number from 0 to 1, as in drop:0.1")),
            },
            _ => Err(format!("`{text}` is not known; there are stop, drop and drop:SHARE")),
        }
    }
}

impl fmt::Display for BadRows {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BadRows::Stop => f.write_str("stop"),
            BadRows::Drop { most } if *most == DEFAULT_BAD_SHARE => f.write_str("drop"),
            BadRows::Drop { most } => write!(f, "drop:{most}"),
        }
    }
}

impl TryFrom<String> for BadRows {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<BadRows> for String {
    fn from(bad_rows: BadRows) -> String {
        bad_rows.to_string()
    }
}

/// The file of `FILE` or `FILE:SHARE`.
pub fn file_of(given: &Path) -> PathBuf {
    DataFile::parse(given).path
}

/// A file of rows and how many times its rows are there: 0.3 takes three of ten, 2 takes each twice.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DataFile {
    pub(crate) path: PathBuf,
    pub(crate) share: f64,
}

impl DataFile {
    /// Of `FILE` or `FILE:SHARE`. A file whose name ends like a share is that file.
    pub(crate) fn parse(given: &Path) -> Self {
        let whole = || DataFile { path: given.to_path_buf(), share: 1.0 };
        let Some((path, share)) = given.to_str().and_then(|text| text.rsplit_once(':')) else { return whole() };
        match share.parse::<f64>() {
            Ok(share) if share.is_finite() && share > 0.0 && !path.is_empty() && !given.exists() => {
                DataFile { path: PathBuf::from(path), share }
            }
            _ => whole(),
        }
    }

    /// How often row `index` is there. The rows taken are spread evenly over the file.
    pub(crate) fn times(&self, index: usize) -> usize {
        let up_to = |rows: usize| (rows as f64 * self.share).floor() as usize;
        up_to(index + 1) - up_to(index)
    }
}
