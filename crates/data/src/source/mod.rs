//! Files of rows: what a file is, by what its bytes and its name say, and its rows as JSON objects one after the other.
//! Invariants: memory is bounded by one row, whatever the file's size, and a row is bounded by `MAX_ROW_BYTES`; a file
//! gives at least one row, or an error; devices and sockets are never opened; a pipe is read once, in order; the hash of a
//! file is that of the bytes that its rows came from, whatever its path leads to by then.
//!
//! A new format is one file here and one line in `BY_NAME` or `kind_by_bytes`. Look next at `row` for what a row may hold.

mod arrow;
mod delimited;
mod flat;
mod folder;
mod hash_rest;
mod json_array;
mod json_lines;
mod limits;
mod parquet_rows;
mod text_file;

pub use json_lines::read_rows_from;
pub use limits::MAX_ROW_BYTES;

use crate::error::{DataError, io_error};
use crate::row::parser::{RowParser, RowSink};
use crate::row::{FileRows, RowOptions};
use hash_rest::hash_rest;
use remat_formats::{HashingReader, sha256_file};
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, Cursor, Read, Seek};
use std::path::Path;

/// What a file's rows are written in, once it is unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileKind {
    /// JSON lines, or one array of objects.
    Json,
    /// A table with a line of names, with this byte between cells.
    Delimited(u8),
    /// Columns in groups of rows.
    Parquet,
    /// One text.
    Text,
    /// Arrow's own files, as `datasets` keeps them.
    Arrow,
}

/// Kinds by the ending of a name; anything else is JSON.
const BY_NAME: [(&str, FileKind); 12] = [
    ("jsonl", FileKind::Json),
    ("ndjson", FileKind::Json),
    ("json", FileKind::Json),
    ("csv", FileKind::Delimited(b',')),
    ("tsv", FileKind::Delimited(b'\t')),
    ("tab", FileKind::Delimited(b'\t')),
    ("parquet", FileKind::Parquet),
    ("txt", FileKind::Text),
    ("text", FileKind::Text),
    ("md", FileKind::Text),
    ("markdown", FileKind::Text),
    ("arrow", FileKind::Arrow),
];
/// Bytes at the start of a file that say what it is.
const MAGIC_BYTES: u64 = 6;
const GZIP: &[u8] = b"\x1f\x8b";
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
/// The largest part of a text that zstd may refer back to: what its levels up to 19 use. It is held in memory.
const ZSTD_WINDOW_LOG: u32 = 23;

/// Gives every row of a file to `sink`, with its line counted from 1 (in parquet, its number), and returns what its rows
/// were.
///
/// Blank lines are skipped; a byte order mark and CRLF line ends are accepted. Stops at the first error, be it the
/// file's or the sink's, unless bad rows may be dropped.
pub fn read_rows(path: &Path, options: &RowOptions, sink: &mut RowSink<'_>) -> Result<FileRows, DataError> {
    let mut rows = RowParser::new(path, options, sink);
    let metadata = std::fs::metadata(path).map_err(|source| io_error(path, source))?;
    if metadata.is_dir() {
        folder::read(path, &mut rows)?;
        return rows.finish();
    }
    // A device may never end. A pipe is read as its writer writes.
    if !metadata.is_file() && !is_pipe(&metadata) {
        return Err(DataError::NotAFile { path: path.to_path_buf() });
    }
    read_file(path, &mut rows)?;
    rows.finish()
}

#[cfg(unix)]
fn is_pipe(metadata: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    metadata.file_type().is_fifo()
}

#[cfg(not(unix))]
fn is_pipe(_: &Metadata) -> bool {
    false
}

fn read_file(path: &Path, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let failed = |source| io_error(path, source);
    let file = File::open(path).map_err(failed)?;
    // What is read is hashed on the way: of a pipe it can be had only once, and a path may lead elsewhere by then.
    let mut hashed = HashingReader::new(&file);
    let mut magic = Vec::new();
    hashed.by_ref().take(MAGIC_BYTES).read_to_end(&mut magic).map_err(failed)?;
    let (found, kind) = (kind_by_bytes(&magic), kind_by_name(path));
    if found == Some(FileKind::Parquet) {
        return read_parquet(path, &file, rows);
    }
    let whole = Cursor::new(&magic).chain(&mut hashed);
    if found == Some(FileKind::Arrow) {
        arrow::read(path, whole, 1, rows)?;
        return hash_rest(path, hashed, rows);
    }
    let mut whole = BufReader::with_capacity(1 << 16, whole);
    if magic.starts_with(GZIP) {
        read_unpacked(&mut BufReader::new(flate2::bufread::MultiGzDecoder::new(whole)), kind, rows)?;
    } else if magic.starts_with(ZSTD) {
        let mut decoder = zstd::Decoder::with_buffer(whole).map_err(failed)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
        read_unpacked(&mut BufReader::new(decoder), kind, rows)?;
    } else {
        read_unpacked(&mut whole, kind, rows)?;
    }
    hash_rest(path, hashed, rows)
}

/// Parquet is read here and there, so it is hashed by itself: from the file that was opened, which must stay as it is.
fn read_parquet(path: &Path, file: &File, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let failed = |source| io_error(path, source);
    let state = || file.metadata().map(|now| (now.is_file(), now.len(), now.modified().ok())).map_err(failed);
    let before = state()?;
    if !before.0 {
        return Err(DataError::NeedsFile { path: path.to_path_buf() });
    }
    let mut read = parquet_rows::read(file.try_clone().map_err(failed)?, rows);
    if read.is_ok() {
        let mut from_start = file;
        from_start.rewind().map_err(failed)?;
        read = hash_rest(path, HashingReader::new(from_start), rows);
    }
    // Said first: a file that is written to while it is read looks damaged.
    if state()? != before {
        return Err(DataError::Changed { path: path.to_path_buf() });
    }
    read
}

/// What [`FileRows::sha256`] of these rows would be now; `None` for what can be read only once, or not at all.
pub(crate) fn sha256_of(path: &Path) -> Option<String> {
    match path.metadata().ok()? {
        found if found.is_dir() => folder::sha256_of(path),
        found if found.is_file() => sha256_file(path).ok(),
        _ => None,
    }
}

fn read_unpacked(reader: &mut dyn BufRead, kind: FileKind, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    match kind {
        FileKind::Json => json_lines::read(reader, rows),
        FileKind::Delimited(delimiter) => delimited::read(reader, delimiter, rows),
        FileKind::Text => text_file::read(reader, rows),
        FileKind::Parquet | FileKind::Arrow => {
            let (path, name) = (rows.path().to_path_buf(), if kind == FileKind::Parquet { "parquet" } else { "Arrow" });
            Err(DataError::NotOfItsKind { path, name })
        }
    }
}

fn kind_by_bytes(magic: &[u8]) -> Option<FileKind> {
    match magic {
        [b'P', b'A', b'R', b'1', ..] => Some(FileKind::Parquet),
        b"ARROW1" | [0xff, 0xff, 0xff, 0xff, ..] => Some(FileKind::Arrow),
        _ => None,
    }
}

/// By the ending of a name, after those of compression.
fn kind_by_name(path: &Path) -> FileKind {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = [".gz", ".zst", ".zstd"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(&name);
    let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
    BY_NAME.iter().find(|(known, _)| *known == ending).map_or(FileKind::Json, |&(_, kind)| kind)
}
