//! What a file's rows were, which a run keeps on record. Invariant: nothing that was passed over or dropped is missing here.

use super::column::Column;
use super::kind::RowKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// What a file's rows were, beside the rows themselves.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct FileRows {
    /// Their format; `None` if no row was good.
    pub kind: Option<RowKind>,
    /// SHA-256 of the bytes that were read, if they were a file's; of a folder's files joined.
    pub sha256: Option<String>,
    /// Keys that mean nothing for training and were passed over.
    pub ignored: BTreeSet<String>,
    /// Columns read under another name.
    pub columns: BTreeSet<Column>,
    /// The first bad rows that were dropped.
    pub bad: Vec<BadRow>,
    /// How many were dropped.
    pub bad_rows: usize,
}

/// A row that was dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BadRow {
    /// The line it starts on, counted from 1.
    pub line: u64,
    /// What is wrong with it, without the place.
    pub reason: String,
}
