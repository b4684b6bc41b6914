//! A file that is one JSON array of rows, streamed element by element. Invariant: only one element is held at a time,
//! and an element is bounded like a line of a JSONL file.

use super::limits::MAX_ROW_BYTES;
use crate::error::{DataError, RowPlace, io_error};
use crate::row::json_text::reason;
use crate::row::parser::RowParser;
use serde::de::{DeserializeSeed, Deserializer, Error as _, SeqAccess, Visitor};
use serde_json::value::RawValue;
use std::cell::Cell;
use std::fmt;
use std::io::{self, BufRead, Read};
use std::path::Path;

/// Reads the array that begins at the reader's next byte, which stands on `first_line`.
pub(crate) fn read_array(
    reader: &mut dyn BufRead,
    first_line: u64,
    rows: &mut RowParser<'_, '_>,
) -> Result<(), DataError> {
    let path = rows.path();
    let at = Position { line: Cell::new(first_line), column: Cell::new(0), element_bytes: Cell::new(0) };
    let mut failure = None;
    let mut json = serde_json::Deserializer::from_reader(Counting { reader, at: &at });
    let rows = Rows { at: &at, rows, failure: &mut failure };
    let read = rows.deserialize(&mut json).and_then(|()| json.end());
    if let Some(error) = failure {
        return Err(error);
    }
    read.map_err(|error| array_error(path, &at, error))
}

fn array_error(path: &Path, at: &Position, error: serde_json::Error) -> DataError {
    let place = RowPlace::new(path, at.line.get());
    if at.element_bytes.get() > MAX_ROW_BYTES {
        return DataError::RowTooLong { place, limit_bytes: MAX_ROW_BYTES };
    }
    if error.is_io() {
        return io_error(path, error.into());
    }
    // An invalid byte sequence is a syntax error to a parser that reads bytes.
    DataError::NotJsonArray { place, column: at.column.get().max(1), reason: reason(&error) }
}

/// Where the reader stands, shared with the parser above it.
struct Position {
    line: Cell<u64>,
    column: Cell<usize>,
    element_bytes: Cell<usize>,
}

/// Counts what the parser takes. The parser takes single bytes and no byte beyond an element's closing brace, so the
/// count is exact whenever an element has been read.
struct Counting<'a> {
    reader: &'a mut dyn BufRead,
    at: &'a Position,
}

impl Read for Counting<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let taken = self.reader.read(buffer)?;
        for &byte in &buffer[..taken] {
            if byte == b'\n' {
                self.at.line.set(self.at.line.get() + 1);
                self.at.column.set(0);
            } else {
                self.at.column.set(self.at.column.get() + 1);
            }
        }
        let element_bytes = self.at.element_bytes.get() + taken;
        self.at.element_bytes.set(element_bytes);
        if element_bytes > MAX_ROW_BYTES {
            return Err(io::Error::other("row too long"));
        }
        Ok(taken)
    }
}

/// The visitor of the array. A row's own error leaves through `failure`, since the parser's error type cannot carry it.
struct Rows<'a, 'path, 'sink> {
    at: &'a Position,
    rows: &'a mut RowParser<'path, 'sink>,
    failure: &'a mut Option<DataError>,
}

impl<'de> DeserializeSeed<'de> for Rows<'_, '_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Rows<'_, '_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of rows")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        while let Some(element) = elements.next_element::<Box<RawValue>>()? {
            self.at.element_bytes.set(0);
            let lines_within = element.get().bytes().filter(|&byte| byte == b'\n').count() as u64;
            let line = self.at.line.get() - lines_within;
            if let Err(error) = self.rows.object(line, element.get()) {
                *self.failure = Some(error);
                return Err(A::Error::custom("stopped at a row"));
            }
        }
        Ok(())
    }
}
