//! Tables of text: CSV and TSV, as RFC 4180 has them. The first line names the columns; a cell in quotes may hold the
//! delimiter, line ends and doubled quotes. Invariants: every row has a cell for each name; every cell is a text, an empty
//! one is nothing; a row stands on the line it starts on.
//!
//! Look next at `row::keys`, by which the columns become a format.

use super::limits::MAX_ROW_BYTES;
use crate::error::{DataError, io_error};
use crate::row::json_text::raw;
use crate::row::parser::RowParser;
use crate::utf8::{BYTE_ORDER_MARK, utf8};
use std::io::BufRead;

/// The cells of one row after the other, in one run of bytes.
#[derive(Default)]
struct Record {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Record {
    fn cells(&self) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, &end)| &self.bytes[start..end])
    }

    fn is_blank(&self) -> bool {
        self.ends.len() == 1 && self.bytes.iter().all(u8::is_ascii_whitespace)
    }
}

pub(super) fn read(reader: &mut dyn BufRead, delimiter: u8, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let mut table = Table { reader, delimiter, line: 1, rows };
    table.skip_mark()?;
    let mut record = Record::default();
    let Some(line) = table.next(&mut record)? else { return Ok(()) };
    let names = table.names(&record, line)?;
    while let Some(line) = table.next(&mut record)? {
        let json = table.as_json(&names, &record, line);
        match json {
            Ok(json) => table.rows.object(line, &json)?,
            Err(error) => table.rows.settle(line, Err(error))?,
        }
    }
    Ok(())
}

struct Table<'r, 'a, 'path, 'sink> {
    reader: &'r mut dyn BufRead,
    delimiter: u8,
    line: u64,
    rows: &'a mut RowParser<'path, 'sink>,
}

/// Where in a cell the reader is.
#[derive(Clone, Copy, PartialEq)]
enum At {
    Start,
    Plain,
    Quoted,
    /// Behind a quote within quotes: the end of the cell, or the first of two that stand for one.
    Quote,
}

impl Table<'_, '_, '_, '_> {
    fn skip_mark(&mut self) -> Result<(), DataError> {
        let buffer = self.reader.fill_buf().map_err(|source| io_error(self.rows.path(), source))?;
        if buffer.starts_with(BYTE_ORDER_MARK) {
            self.reader.consume(BYTE_ORDER_MARK.len());
        }
        Ok(())
    }

    /// Reads the next row that is not blank and returns its line; `None` at the end.
    fn next(&mut self, record: &mut Record) -> Result<Option<u64>, DataError> {
        loop {
            let line = self.line;
            if !self.read(record, line)? {
                return Ok(None);
            }
            if !record.is_blank() {
                return Ok(Some(line));
            }
        }
    }

    /// Reads one row; false at the end of the file.
    fn read(&mut self, record: &mut Record, line: u64) -> Result<bool, DataError> {
        record.bytes.clear();
        record.ends.clear();
        let mut at = At::Start;
        let mut any = false;
        loop {
            let buffer = self.reader.fill_buf().map_err(|source| io_error(self.rows.path(), source))?;
            if buffer.is_empty() {
                if at == At::Quoted {
                    return Err(DataError::OpenQuote { place: self.rows.place(line) });
                }
                if any {
                    record.ends.push(record.bytes.len());
                }
                return Ok(any);
            }
            let mut taken = 0;
            for &byte in buffer {
                taken += 1;
                any = true;
                self.line += u64::from(byte == b'\n');
                at = match (at, byte) {
                    (At::Quoted, b'"') => At::Quote,
                    (At::Quoted, _) => {
                        record.bytes.push(byte);
                        At::Quoted
                    }
                    (At::Start, b'"') => At::Quoted,
                    (At::Quote, b'"') => {
                        record.bytes.push(b'"');
                        At::Quoted
                    }
                    (_, b'\n') => {
                        // The carriage return of a line end is none of a plain cell.
                        if at == At::Plain && record.bytes.last() == Some(&b'\r') {
                            record.bytes.pop();
                        }
                        record.ends.push(record.bytes.len());
                        self.reader.consume(taken);
                        return Ok(true);
                    }
                    (_, byte) if byte == self.delimiter => {
                        record.ends.push(record.bytes.len());
                        At::Start
                    }
                    (At::Quote, b'\r') => At::Quote,
                    (At::Quote, _) => return Err(DataError::TextBehindQuote { place: self.rows.place(self.line) }),
                    (At::Start | At::Plain, _) => {
                        record.bytes.push(byte);
                        At::Plain
                    }
                };
            }
            self.reader.consume(taken);
            if record.bytes.len() > MAX_ROW_BYTES {
                return Err(DataError::RowTooLong { place: self.rows.place(line), limit_bytes: MAX_ROW_BYTES });
            }
        }
    }

    fn names(&self, record: &Record, line: u64) -> Result<Vec<String>, DataError> {
        let place = self.rows.place(line);
        record.cells().map(|cell| utf8(cell, &place).map(|name| name.trim().to_string())).collect()
    }

    /// The row as an object. Cells are texts; those with nothing in them are left out unless the format needs them.
    fn as_json(&self, names: &[String], record: &Record, line: u64) -> Result<String, DataError> {
        let place = self.rows.place(line);
        if record.ends.len() != names.len() {
            return Err(DataError::CellCount { place, cells: record.ends.len(), names: names.len() });
        }
        let mut json = String::with_capacity(record.bytes.len() + 16 * names.len());
        for (name, cell) in names.iter().zip(record.cells()) {
            json.push(if json.is_empty() { '{' } else { ',' });
            json.push_str(raw(name).get());
            json.push(':');
            json.push_str(raw(&utf8(cell, &place)?).get());
        }
        json.push('}');
        Ok(json)
    }
}
