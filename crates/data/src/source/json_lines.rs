//! Streams the rows of a file: JSON lines, or one JSON array. Invariants: memory is bounded by one row, whatever the
//! file's size, and a row is bounded by `MAX_ROW_BYTES`; a file gives at least one row, or an error.
//!
//! Look next at `row` for what a line may hold, and at `json_array` for the array form.

use super::json_array;
use super::limits::MAX_ROW_BYTES;
use crate::error::{DataError, RowPlace, io_error};
use crate::row::parser::{RowParser, RowSink};
use crate::row::{FileRows, RowOptions};
use crate::utf8::BYTE_ORDER_MARK;
use std::io::{BufRead, Read};
use std::path::Path;

/// [`read_rows`](crate::read_rows) from memory or from any other reader of JSON; `path` is for messages.
pub fn read_rows_from(
    reader: &mut dyn BufRead,
    path: &Path,
    options: &RowOptions,
    sink: &mut RowSink<'_>,
) -> Result<FileRows, DataError> {
    let mut rows = RowParser::new(path, options, sink);
    read(reader, &mut rows)?;
    rows.finish()
}

/// JSON lines, or one JSON array.
pub(super) fn read(reader: &mut dyn BufRead, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let path = rows.path();
    let first_line = skip_blank(reader, path)?;
    let starts_array = reader.fill_buf().map_err(|source| io_error(path, source))?.first() == Some(&b'[');
    if starts_array {
        return json_array::read_array(reader, first_line, rows);
    }
    let mut bytes = Vec::new();
    let mut line = first_line;
    while read_line(reader, &mut bytes, &rows.place(line))? {
        rows.last_object(line, &mut bytes)?;
        line += 1;
    }
    Ok(())
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
fn read_line(reader: &mut dyn BufRead, bytes: &mut Vec<u8>, place: &RowPlace) -> Result<bool, DataError> {
    bytes.clear();
    let limit = MAX_ROW_BYTES as u64 + 1;
    reader.take(limit).read_until(b'\n', bytes).map_err(|source| io_error(&place.path, source))?;
    if bytes.len() > MAX_ROW_BYTES {
        return Err(DataError::RowTooLong { place: place.clone(), limit_bytes: MAX_ROW_BYTES });
    }
    Ok(!bytes.is_empty())
}
