//! Files of one JSON value a line, which a process may have left torn.
//!
//! Invariant: one line is held at a time: a long run's log is larger than many an arena.

use crate::TrainError;
use serde::de::DeserializeOwned;
use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::path::Path;

/// Appends all of the bytes to a file that is open for it, or leaves it as it was.
///
/// # Errors
/// A full disk and the like.
pub(crate) fn append_whole(file: &mut File, bytes: &[u8]) -> io::Result<()> {
    let length = file.metadata()?.len();
    // The first failure is the one to report; a torn line is taken away by the run that goes on.
    file.write_all(bytes).inspect_err(|_| drop(file.set_len(length)))
}

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
