//! The one door through which files are opened for reading.
//!
//! Invariants: only a regular file is opened: a pipe would hang until somebody writes, a device may never end, and a
//! folder or socket cannot be read; and what is read whole is bounded, by the kind of file. Whoever reads a file that a
//! user names, anywhere in the program, comes through here.

use std::fs::{File, FileType};
use std::io::{Error, ErrorKind, Read};
use std::path::Path;

/// Largest file of a tokenizer that is read or copied: `tokenizer.json` of 256 thousand tokens takes 30 MB.
pub const TOKENIZER_FILE_LIMIT_BYTES: u64 = 512 << 20;

/// Largest settings, record, plan or configuration that is read; real ones take a few kilobytes.
pub const SETTINGS_LIMIT_BYTES: u64 = 16 << 20;

/// What is wrong with a path that leads to something else than a file.
pub(crate) const NOT_REGULAR: &str = "is not a regular file; give the path of a file";

/// Opens a regular file for reading, with its size in bytes.
///
/// # Errors
/// The system's, or [`ErrorKind::InvalidInput`] for a folder, pipe, device or socket.
pub fn open_file(path: &Path) -> Result<(File, u64), Error> {
    // Looked at before it is opened: opening a named pipe blocks until somebody writes to it.
    let metadata = std::fs::metadata(path)?;
    refuse_others(metadata.file_type())?;
    let file = File::open(path)?;
    // And once more, for it may have been replaced meanwhile.
    let metadata = file.metadata()?;
    refuse_others(metadata.file_type())?;
    Ok((file, metadata.len()))
}

fn refuse_others(kind: FileType) -> Result<(), Error> {
    if kind.is_file() { Ok(()) } else { Err(Error::new(ErrorKind::InvalidInput, NOT_REGULAR)) }
}

/// The bytes of a regular file of at most `limit_bytes`.
///
/// # Errors
/// As [`open_file`]; [`ErrorKind::FileTooLarge`] for a file that is larger.
pub fn read_file(path: &Path, limit_bytes: u64) -> Result<Vec<u8>, Error> {
    let (file, length) = open_file(path)?;
    let mut bytes = Vec::new();
    // The size may be a lie (a growing file, one under /proc), so what is read is bounded, too.
    file.take(limit_bytes + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit_bytes {
        let problem =
            format!("holds {} bytes, more than the {limit_bytes} such a file may have", length.max(limit_bytes));
        return Err(Error::new(ErrorKind::FileTooLarge, problem));
    }
    Ok(bytes)
}

/// The text of a regular file of at most `limit_bytes`.
///
/// # Errors
/// As [`read_file`]; [`ErrorKind::InvalidData`] for what is not UTF-8.
pub fn read_text_file(path: &Path, limit_bytes: u64) -> Result<String, Error> {
    String::from_utf8(read_file(path, limit_bytes)?).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Error::new(ErrorKind::InvalidData, format!("is not UTF-8 text: byte {at} begins no character"))
    })
}
