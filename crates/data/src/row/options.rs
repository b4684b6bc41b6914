//! How a user writes down how rows are read: `prompt=question` for a column, `stop`, `drop` or `drop:0.1` for bad rows,
//! `rows.jsonl:0.3` for a share of a file. Invariant: what is parsed here prints as it was written.

use super::keys;
use super::parser::{BadRows, DEFAULT_BAD_SHARE};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A column of a file and the key of a format that it stands for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Column {
    /// The key of a format, such as `prompt`.
    pub name: String,
    /// The file's own name for it.
    pub column: String,
}

impl FromStr for Column {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let Some((name, column)) = text.split_once('=') else {
            return Err(format!("`{text}`: write NAME=COLUMN, such as prompt=question"));
        };
        let name = name.trim().to_lowercase();
        if !keys::is_of_a_format(&name) {
            let all = keys::of_formats().join(", ");
            return Err(format!("`{name}` is no key of a format; there are {all}"));
        }
        if column.trim().is_empty() {
            return Err(format!("`{text}` names no column; write NAME=COLUMN, such as prompt=question"));
        }
        Ok(Column { name, column: column.to_string() })
    }
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.column)
    }
}

impl TryFrom<String> for Column {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Column> for String {
    fn from(column: Column) -> String {
        column.to_string()
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
