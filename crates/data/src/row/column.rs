//! A column that is read under another name, written `prompt=question`. Invariant: what is parsed here prints as it was
//! written, and names a key that some format takes.

use super::keys;
use serde::{Deserialize, Serialize};
use std::fmt;
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
