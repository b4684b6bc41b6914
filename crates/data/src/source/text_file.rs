//! A file of plain text or Markdown: one text, which becomes as many sequences as it fills. Invariant: no byte of it is
//! lost or changed but a byte order mark and the carriage returns of line ends. Look next at `dataset`, which divides it.

use super::limits::MAX_ROW_BYTES;
use crate::error::{DataError, io_error};
use crate::row::parser::RowParser;
use crate::row::{Row, RowKind};
use crate::utf8::{BYTE_ORDER_MARK, utf8};
use std::io::{BufRead, Read};

pub(super) fn read(reader: &mut dyn BufRead, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let place = rows.place(1);
    let mut bytes = Vec::new();
    reader.take(MAX_ROW_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(|source| io_error(rows.path(), source))?;
    if bytes.len() > MAX_ROW_BYTES {
        return Err(DataError::TextTooLong { path: place.path, limit_bytes: MAX_ROW_BYTES });
    }
    let text = utf8(bytes.strip_prefix(BYTE_ORDER_MARK).unwrap_or(&bytes), &place)?;
    if text.trim().is_empty() {
        return Ok(());
    }
    let text = if text.contains("\r\n") { text.replace("\r\n", "\n") } else { text.to_string() };
    rows.row(1, RowKind::Document, Row::Document { text })
}
