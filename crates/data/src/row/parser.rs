//! The rows of one file, one JSON object after the other. Invariants: what was passed over is on record: keys that mean
//! nothing, columns read under another name, and bad rows where these may be dropped, with line and reason; dropped
//! rows never exceed their share.
//!
//! Look next at `source`, which feeds it the objects of a file of any format.

use super::column::Column;
use super::file_rows::{BadRow, FileRows};
use super::json_text::{described, is_nothing, listed};
use super::keys::{Format, Meaning, meaning};
use super::kind::RowKind;
use super::options::{BadRows, RowOptions};
use super::{Fields, Row, long_text};
use crate::error::{DataError, RowPlace};
use crate::utf8::utf8;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

/// Bad rows whose line and reason are kept.
const MOST_SHOWN_BAD: usize = 20;
/// A row, or where its one long text stands, between its quotes.
#[allow(clippy::large_enum_variant)] // There is one of it at a time.
enum Parsed {
    Row(Row),
    LongText(Range<usize>),
}

/// Receives a row and its line.
pub type RowSink<'a> = dyn FnMut(u64, Row) -> Result<(), DataError> + 'a;

/// Reads objects as rows and hands them on.
pub(crate) struct RowParser<'a, 'sink> {
    path: &'a Path,
    options: &'a RowOptions,
    sink: &'a mut RowSink<'sink>,
    format: Option<&'static Format>,
    good_rows: usize,
    found: FileRows,
}

impl<'a, 'sink> RowParser<'a, 'sink> {
    pub(crate) fn new(path: &'a Path, options: &'a RowOptions, sink: &'a mut RowSink<'sink>) -> Self {
        RowParser { path, options, sink, format: None, good_rows: 0, found: FileRows::default() }
    }

    pub(crate) fn path(&self) -> &'a Path {
        self.path
    }

    pub(crate) fn place(&self, line: u64) -> RowPlace {
        RowPlace::new(self.path, line)
    }

    /// One object that starts on `line`.
    pub(crate) fn object(&mut self, line: u64, json: &str) -> Result<(), DataError> {
        let parsed = self.parse(line, json).map(|parsed| match parsed {
            Parsed::Row(row) => row,
            Parsed::LongText(within) => {
                Row::Text { text: long_text::decoded(json[within.clone()].into(), 0..within.len()) }
            }
        });
        self.give(line, parsed)
    }

    /// As [`object`](Self::object), of bytes that nobody needs any more: a long text takes no memory beside them.
    pub(crate) fn last_object(&mut self, line: u64, bytes: &mut Vec<u8>) -> Result<(), DataError> {
        let json = utf8(bytes, &self.place(line)).map(str::trim_ascii_end);
        let parsed = match json {
            Ok("") => return Ok(()),
            Ok(json) => self.parse(line, json),
            Err(error) => Err(error),
        };
        let row = parsed.map(|parsed| match parsed {
            Parsed::Row(row) => row,
            Parsed::LongText(within) => Row::Text { text: long_text::decoded(std::mem::take(bytes), within) },
        });
        self.give(line, row)
    }

    fn give(&mut self, line: u64, row: Result<Row, DataError>) -> Result<(), DataError> {
        let result = row.and_then(|row| (self.sink)(line, row));
        self.settle(line, result)
    }

    /// Says what the bytes of a file that was read were.
    pub(crate) fn hashed(&mut self, sha256: &str) {
        match &mut self.found.sha256 {
            Some(before) => *before = [before, "+", sha256].concat(),
            none => *none = Some(sha256.to_string()),
        }
    }

    /// A row that was no object.
    pub(crate) fn row(&mut self, line: u64, kind: RowKind, row: Row) -> Result<(), DataError> {
        self.found.kind = Some(kind);
        let result = (self.sink)(line, row);
        self.settle(line, result)
    }

    /// Counts a row as good or bad; an error unless bad rows may be dropped.
    pub(crate) fn settle(&mut self, line: u64, result: Result<(), DataError>) -> Result<(), DataError> {
        match (result, self.options.bad_rows) {
            (Ok(()), _) => self.good_rows += 1,
            (Err(error), BadRows::Drop { .. }) if error.is_of_one_row() => {
                self.found.bad_rows += 1;
                if self.found.bad.len() < MOST_SHOWN_BAD {
                    let reason = error.to_string();
                    let place = self.place(line).to_string();
                    let reason = reason.strip_prefix(&place).unwrap_or(&reason).trim_start_matches([':', ' ']);
                    self.found.bad.push(BadRow { line, reason: reason.to_string() });
                }
            }
            (Err(error), _) => return Err(error),
        }
        Ok(())
    }

    fn parse(&mut self, line: u64, json: &str) -> Result<Parsed, DataError> {
        let place = self.place(line);
        let mut fields = Fields::parse(json, self.options, &place)?;
        fields.check_preference(self.options)?;
        let format = match self.format {
            Some(format) => format,
            None => fields.detect()?,
        };
        fields.expect(format)?;
        let columns = self.columns_of(&fields);
        let parsed = match fields.long_text(format)? {
            Some(within) => Parsed::LongText(within),
            None => Parsed::Row(fields.row(format)?),
        };
        let ignored = self.left_over(&fields, format.kind)?;
        self.format = Some(format);
        self.found.columns.extend(columns);
        self.found.ignored.extend(ignored);
        Ok(parsed)
    }

    /// The mapped columns that a row has.
    fn columns_of(&self, fields: &Fields<'_>) -> Vec<Column> {
        let there = |mapped: &&Column| fields.values.contains_key(&mapped.name);
        self.options.columns.iter().filter(there).cloned().collect()
    }

    /// Judges the keys that no format took: those to be passed over, or an error that names the others.
    fn left_over(&self, fields: &Fields<'_>, kind: RowKind) -> Result<Vec<String>, DataError> {
        let (mut ignored, mut unknown) = (Vec::new(), BTreeMap::new());
        for (key, value) in fields.values.iter().filter(|(_, value)| !is_nothing(value)) {
            match meaning(key, kind) {
                _ if self.options.ignores(key) => ignored.push(key.clone()),
                Meaning::Harmless => ignored.push(key.clone()),
                Meaning::Refused => return Err(fields.refused(key)),
                Meaning::Unknown => drop(unknown.insert(key.as_str(), *value)),
            }
        }
        match unknown.first_key_value() {
            None => Ok(ignored),
            Some((_, value)) => Err(DataError::UnknownBeside {
                place: fields.place.clone(),
                keys: listed(unknown.keys().copied()),
                names: unknown.keys().copied().collect::<Vec<_>>().join(","),
                found: described(value),
                kind,
            }),
        }
    }

    /// What the file's rows were; an error if there was none, or too few of them are good.
    pub(crate) fn finish(mut self) -> Result<FileRows, DataError> {
        let rows = self.good_rows + self.found.bad_rows;
        if rows == 0 {
            return Err(DataError::NoRows { path: self.path.to_path_buf() });
        }
        if let BadRows::Drop { most } = self.options.bad_rows
            && (self.found.bad_rows as f64 > most * rows as f64 || self.good_rows == 0)
        {
            let first = self.found.bad.first().expect("a bad row was kept");
            let (line, reason) = (first.line, first.reason.clone());
            let (bad, percent) = (self.found.bad_rows, 100.0 * most);
            return Err(DataError::TooManyBad { place: self.place(line), bad, rows, percent, reason });
        }
        self.found.kind = self.format.map(|format| format.kind).or(self.found.kind);
        Ok(self.found)
    }
}
