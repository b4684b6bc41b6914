//! A folder that `datasets` saved (`save_to_disk`): `state.json` names the Arrow files that hold its rows, in order.
//! Invariant: every other folder is refused, and so is one of several splits, which are data of different uses.

use super::arrow;
use super::hash_rest::hash_rest;
use crate::error::{DataError, io_error};
use crate::row::parser::RowParser;
use remat_formats::{HashingReader, sha256_file};
use serde::Deserialize;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

const MAX_STATE_BYTES: u64 = 16 << 20;

#[derive(Deserialize)]
struct State {
    #[serde(rename = "_data_files")]
    data_files: Vec<DataFileName>,
    /// A choice of rows; `save_to_disk` has written the chosen ones only, since there are such folders.
    #[serde(rename = "_indices_data_files", alias = "_indices_files", default)]
    indices: Option<Vec<serde_json::Value>>,
}

#[derive(Deserialize)]
struct DataFileName {
    filename: String,
}

pub(super) fn read(path: &Path, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let mut number = 1;
    for part in parts(path)? {
        let mut file = HashingReader::new(File::open(&part).map_err(|source| io_error(&part, source))?);
        number = arrow::read(&part, &mut file, number, rows)?;
        hash_rest(&part, file, rows)?;
    }
    Ok(())
}

/// The hashes of its files, joined.
pub(super) fn sha256_of(path: &Path) -> Option<String> {
    let parts = parts(path).ok()?;
    let hashes = parts.iter().map(|part| sha256_file(part).ok()).collect::<Option<Vec<_>>>()?;
    Some(hashes.join("+"))
}

/// The files that hold its rows.
fn parts(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    if path.join("dataset_dict.json").is_file() {
        return Err(DataError::Splits { path: path.to_path_buf() });
    }
    let state_file = path.join("state.json");
    if !state_file.is_file() {
        return Err(DataError::IsFolder { path: path.to_path_buf() });
    }
    let damaged = |reason: String| DataError::Damaged { path: state_file.clone(), reason };
    let mut text = String::new();
    let file = File::open(&state_file).map_err(|source| io_error(&state_file, source))?;
    file.take(MAX_STATE_BYTES).read_to_string(&mut text).map_err(|source| io_error(&state_file, source))?;
    let state: State = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if state.indices.is_some_and(|indices| !indices.is_empty()) {
        return Err(damaged("it chooses rows by an index, which is not read here".to_string()));
    }
    let part = |DataFileName { filename }: DataFileName| {
        let plain = Path::new(&filename).file_name().is_some_and(|name| name == filename.as_str());
        let part = path.join(&filename);
        if plain && part.is_file() {
            Ok(part)
        } else {
            Err(damaged(format!("it names {filename:?}, and the folder has no such file")))
        }
    };
    state.data_files.into_iter().map(part).collect()
}
