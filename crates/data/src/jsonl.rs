//! Streams the rows of a file: JSON lines, or one JSON array. Invariants: memory is bounded by one row, whatever the
//! file's size, and a row is bounded by `MAX_ROW_BYTES`; a file gives at least one row, or an error.
//!
//! Look next at `row` for what a line may hold, and at `json_array` for the array form.

use crate::error::Place;
use crate::row::parse_row;
use crate::{DataError, Row, RowKind, json_array};
use remat_formats::HashingReader;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

/// The longest row that is read, so that a file without line ends cannot take the machine's memory.
pub const MAX_ROW_BYTES: usize = 64 << 20;

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// Gives every row of a file to `sink`, with its line counted from 1, and returns the file's format.
///
/// Blank lines are skipped; a byte order mark and CRLF line ends are accepted. Stops at the first error, be it the
/// file's or the sink's.
pub fn read_rows(path: &Path, sink: &mut RowSink<'_>) -> Result<RowKind, DataError> {
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    read_rows_from(&mut BufReader::with_capacity(1 << 16, file), path, sink)
}

/// As [`read_rows`], and returns the SHA-256 of what was read, too: of a pipe, it can be had only once.
pub fn read_rows_hashed(path: &Path, sink: &mut RowSink<'_>) -> Result<(RowKind, String), DataError> {
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    let mut reader = BufReader::with_capacity(1 << 16, HashingReader::new(file));
    let kind = read_rows_from(&mut reader, path, sink)?;
    Ok((kind, reader.into_inner().sha256()))
}

/// Receives a row and its line.
pub type RowSink<'a> = dyn FnMut(u64, Row) -> Result<(), DataError> + 'a;

/// [`read_rows`] from memory or from any other reader; `path` is for messages.
pub fn read_rows_from(reader: &mut dyn BufRead, path: &Path, sink: &mut RowSink<'_>) -> Result<RowKind, DataError> {
    let first_line = skip_blank(reader, path)?;
    let starts_array = reader.fill_buf().map_err(|source| io_error(path, source))?.first() == Some(&b'[');
    if starts_array {
        return json_array::read_array(reader, path, first_line, sink);
    }
    let mut kind = None;
    let mut bytes = Vec::new();
    let mut line = first_line;
    while read_line(reader, &mut bytes, &Place::new(path, line))? {
        let place = Place::new(path, line);
        let text = utf8(&bytes, &place)?.trim_ascii_end();
        if !text.is_empty() {
            sink(line, parse_row(text, &mut kind, &place)?)?;
        }
        line += 1;
    }
    kind.ok_or_else(|| DataError::NoRows { path: path.to_path_buf() })
}

/// Skips a byte order mark and blank space up to the first row and returns its line.
fn skip_blank(reader: &mut dyn BufRead, path: &Path) -> Result<u64, DataError> {
    let mut line = 1;
    let mut skip_mark = true;
    loop {
        let buffer = reader.fill_buf().map_err(|source| io_error(path, source))?;
        // A reader may give less than the mark's three bytes at once; a file's first buffer never does.
        let mark = if skip_mark && buffer.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        skip_mark = false;
        let blank = buffer[mark..].iter().take_while(|byte| byte.is_ascii_whitespace()).count();
        line += buffer[mark..mark + blank].iter().filter(|&&byte| byte == b'\n').count() as u64;
        let taken = mark + blank;
        if taken == 0 {
            return Ok(line);
        }
        reader.consume(taken);
    }
}

/// Reads one line into `bytes`; false at the end of the file.
fn read_line(reader: &mut dyn BufRead, bytes: &mut Vec<u8>, place: &Place) -> Result<bool, DataError> {
    bytes.clear();
    let limit = MAX_ROW_BYTES as u64 + 1;
    reader.take(limit).read_until(b'\n', bytes).map_err(|source| io_error(&place.path, source))?;
    if bytes.len() > MAX_ROW_BYTES {
        return Err(DataError::RowTooLong { place: place.clone(), limit_bytes: MAX_ROW_BYTES });
    }
    Ok(!bytes.is_empty())
}

fn utf8<'a>(bytes: &'a [u8], place: &Place) -> Result<&'a str, DataError> {
    std::str::from_utf8(bytes)
        .map_err(|error| DataError::NotUtf8 { place: place.clone(), column: error.valid_up_to() + 1 })
}

pub(crate) fn io_error(path: &Path, source: std::io::Error) -> DataError {
    DataError::Io { path: path.to_path_buf(), source }
}
