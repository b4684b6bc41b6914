//! Files of rows: what a file is, by what its bytes and its name say, and its rows as JSON objects one after the other.
//! Invariants: memory is bounded by one row, whatever the file's size, and a row is bounded by `MAX_ROW_BYTES`; a file
//! gives at least one row, or an error; devices and sockets are never opened.
//!
//! A new format is one file here and one line in `BY_NAME` or `kind_by_bytes`. Look next at `row` for what a row may hold.

mod arrow;
mod delimited;
mod flat;
mod folder;
mod json_array;
mod json_lines;
mod parquet_rows;
mod text_file;

pub use json_lines::{MAX_ROW_BYTES, read_rows_from};

use crate::DataError;
use crate::row::parser::{FileRows, RowOptions, RowParser, RowSink};
use remat_formats::{HashingReader, sha256_file};
use std::fs::{File, Metadata};
use std::io::{BufRead, BufReader, ErrorKind};
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
const MAGIC_BYTES: usize = 6;
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
    read_file(path, &metadata, &mut rows)?;
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

fn read_file(path: &Path, metadata: &Metadata, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let failed = |source| io_error(path, source);
    let file = File::open(path).map_err(failed)?;
    // What is read is hashed on the way: of a pipe it can be had only once.
    let mut reader = BufReader::with_capacity(1 << 16, HashingReader::new(file));
    let magic = reader.fill_buf().map_err(failed)?;
    let magic = magic[..magic.len().min(MAGIC_BYTES)].to_vec();
    if let Some(kind) = kind_by_bytes(&magic).filter(|_| metadata.is_file()) {
        rows.hashed(&sha256_file(path)?);
        let file = File::open(path).map_err(failed)?;
        return match kind {
            FileKind::Parquet => parquet_rows::read(file, rows),
            _ => arrow::read(path, file, 1, rows).map(drop),
        };
    }
    let kind = kind_by_name(path);
    if magic.starts_with(GZIP) {
        let decoder = flate2::bufread::MultiGzDecoder::new(&mut reader);
        read_unpacked(&mut BufReader::new(decoder), kind, rows)?;
    } else if magic.starts_with(ZSTD) {
        let mut decoder = zstd::Decoder::with_buffer(&mut reader).map_err(failed)?;
        decoder.window_log_max(ZSTD_WINDOW_LOG).map_err(failed)?;
        read_unpacked(&mut BufReader::new(decoder), kind, rows)?;
    } else {
        read_unpacked(&mut reader, kind, rows)?;
    }
    std::io::copy(&mut reader, &mut std::io::sink()).map_err(failed)?;
    rows.hashed(&reader.into_inner().sha256());
    Ok(())
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

/// A file that cannot be read, or whose compressed bytes cannot.
pub(crate) fn io_error(path: &Path, source: std::io::Error) -> DataError {
    let path = path.to_path_buf();
    match source.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::UnexpectedEof | ErrorKind::Other => {
            DataError::Damaged { path, reason: source.to_string() }
        }
        _ => DataError::Io { path, source },
    }
}

/// The text of bytes that stand on a line.
pub(crate) fn utf8<'a>(bytes: &'a [u8], place: &crate::Place) -> Result<&'a str, DataError> {
    std::str::from_utf8(bytes)
        .map_err(|error| DataError::NotUtf8 { place: place.clone(), column: error.valid_up_to() + 1 })
}
