//! Files of one JSON value a line, which a process may have left torn.
//!
//! Invariant: one line is held at a time: a long run's log is larger than many an arena.

use crate::TrainError;
use serde::de::DeserializeOwned;
use std::io::{BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

/// Gives the whole lines with their ends, of at most so many bytes each, up to the first that is torn or that `take` refuses;
/// none of a file that is not there.
///
/// # Errors
/// A file that cannot be read.
pub(crate) fn whole_lines<T: DeserializeOwned>(
    path: &Path,
    most_line_bytes: u64,
    take: &mut dyn FnMut(&[u8], T) -> bool,
) -> Result<(), TrainError> {
    let failed = |source| TrainError::Io { path: path.to_path_buf(), what: "read", source };
    let mut reader = match remat_formats::open_file(path) {
        Ok((file, _)) => BufReader::new(file),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed(source)),
    };
    let mut line = Vec::new();
    loop {
        line.clear();
        (&mut reader).take(most_line_bytes).read_until(b'\n', &mut line).map_err(failed)?;
        let whole = line.ends_with(b"\n").then(|| serde_json::from_slice(&line).ok()).flatten();
        if !whole.is_some_and(|value| take(&line, value)) {
            return Ok(());
        }
    }
}
