//! Arrow's files, as `datasets` keeps its tables: a schema and then batches of rows, each a message (metadata as
//! FlatBuffers) with a body of buffers. Rows become JSON objects with the fields in the schema's order.
//!
//! Written out here for the types that rows of training data have, because Arrow's own reader takes longer to build than
//! all else that reads rows. Layouts: <https://arrow.apache.org/docs/format/Columnar.html>. Invariants: nothing is read
//! outside of a body; a missing value is null; other types, dictionaries and compressed bodies are refused by name; memory
//! is bounded by one batch, and a batch by `MAX_BATCH_BYTES`.

use super::flat::FlatTable;
use crate::error::{DataError, io_error};
use crate::row::json_text::raw;
use crate::row::parser::RowParser;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::path::Path;

/// The largest batch that is read; `datasets` writes a thousand rows at a time.
const MAX_BATCH_BYTES: u64 = 1 << 30;
const MAX_METADATA_BYTES: u64 = 16 << 20;
const MAX_DEPTH: usize = 16;
const FILE_MARK: &[u8] = b"ARROW1\0\0";
const SCHEMA: u8 = 1;
const RECORD_BATCH: u8 = 3;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Kind {
    Null,
    Bool,
    Int {
        bytes: usize,
        signed: bool,
    },
    Float {
        bytes: usize,
    },
    /// Offsets of 4 or 8 bytes into text.
    Text {
        wide: bool,
    },
    /// Offsets of 4 or 8 bytes into the child.
    List {
        wide: bool,
    },
    FixedList {
        len: usize,
    },
    Struct,
}

/// A column of the schema.
struct Column {
    name: String,
    kind: Kind,
    children: Vec<Column>,
}

/// A column's values in one batch.
struct Values<'a> {
    column: &'a Column,
    len: usize,
    valid: &'a [u8],
    /// Offsets, where the kind has them.
    offsets: &'a [u8],
    data: &'a [u8],
    children: Vec<Values<'a>>,
}

/// Reads the rows of a file, in order; numbers go on from `number`, which is that of the first. Returns the next one.
pub(super) fn read(
    path: &Path,
    file: impl Read,
    mut number: u64,
    rows: &mut RowParser<'_, '_>,
) -> Result<u64, DataError> {
    let damaged = |what: &str| DataError::Damaged { path: path.to_path_buf(), reason: what.to_string() };
    let mut reader = BufReader::new(file);
    let mut schema: Option<Vec<Column>> = None;
    while let Some(metadata) = next_message(path, &mut reader)? {
        let broken = || damaged("a message of it does not fit together");
        let message = FlatTable::root(&metadata).ok_or_else(broken)?;
        let (kind, header) = (message.u8(1).unwrap_or(0), message.table(2).ok_or_else(broken)?);
        let size = u64::try_from(message.i64(3).unwrap_or(0)).map_err(|_| broken())?;
        let body = take(path, &mut reader, size, MAX_BATCH_BYTES)?;
        match (kind, &schema) {
            (SCHEMA, None) => {
                let fields = header.tables(1).ok_or_else(broken)?;
                schema = Some(
                    fields
                        .iter()
                        .map(|field| column(field, 0))
                        .collect::<Result<_, _>>()
                        .map_err(|what| damaged(&what))?,
                );
            }
            (RECORD_BATCH, Some(schema)) => {
                if header.table(3).is_some() {
                    return Err(damaged("its batches are compressed, which is not read here"));
                }
                let (columns, len) = batch(schema, &header, &body).ok_or_else(broken)?;
                for index in 0..len {
                    let mut json = String::new();
                    write_fields(&columns, index, &mut json).ok_or_else(broken)?;
                    rows.object(number, &json)?;
                    number += 1;
                }
            }
            _ => return Err(damaged("it has dictionaries or other messages that are not read here")),
        }
    }
    Ok(number)
}

/// The metadata of the next message; `None` at the end.
fn next_message(path: &Path, reader: &mut impl Read) -> Result<Option<Vec<u8>>, DataError> {
    let mut word = [0; 4];
    let mut next = |reader: &mut dyn Read| -> Result<Option<u32>, DataError> {
        let mut filled = 0;
        while filled < 4 {
            match reader.read(&mut word[filled..]).map_err(|source| io_error(path, source))? {
                0 => return Ok(None),
                read => filled += read,
            }
        }
        Ok(Some(u32::from_le_bytes(word)))
    };
    let mut size = next(reader)?;
    if size == Some(u32::from_le_bytes(*b"ARRO")) {
        take(path, reader, FILE_MARK.len() as u64 - 4, MAX_METADATA_BYTES)?;
        size = next(reader)?;
    }
    // A mark before the size, in all but the oldest files.
    if size == Some(u32::MAX) {
        size = next(reader)?;
    }
    match size {
        None | Some(0) => Ok(None),
        Some(size) => take(path, reader, u64::from(size), MAX_METADATA_BYTES).map(Some),
    }
}

fn take(path: &Path, reader: &mut (impl Read + ?Sized), size: u64, limit: u64) -> Result<Vec<u8>, DataError> {
    let damaged = |reason: String| DataError::Damaged { path: path.to_path_buf(), reason };
    if size > limit {
        return Err(damaged(format!("a message of it has {size} bytes, more than {limit}")));
    }
    let mut bytes = Vec::new();
    reader.take(size).read_to_end(&mut bytes).map_err(|source| io_error(path, source))?;
    match bytes.len() as u64 == size {
        true => Ok(bytes),
        false => Err(damaged("it ends within a message".to_string())),
    }
}

/// A column of the schema; or what is wrong with it.
fn column(field: &FlatTable<'_>, depth: usize) -> Result<Column, String> {
    let name = field.text(0).unwrap_or_default().to_string();
    if depth > MAX_DEPTH {
        return Err(format!("column {name:?} is nested deeper than {MAX_DEPTH}"));
    }
    let of_type = field.table(3);
    let int = |number: usize| of_type.as_ref().and_then(|table| table.i32(number));
    let kind = match field.u8(2).unwrap_or(0) {
        1 => Some(Kind::Null),
        2 => {
            let signed = of_type.as_ref().and_then(|table| table.u8(1)) == Some(1);
            matches!(int(0), Some(8 | 16 | 32 | 64))
                .then(|| Kind::Int { bytes: int(0).unwrap_or(0) as usize / 8, signed })
        }
        3 => match of_type.as_ref().and_then(|table| table.i16(0)).unwrap_or(0) {
            1 => Some(Kind::Float { bytes: 4 }),
            2 => Some(Kind::Float { bytes: 8 }),
            _ => None,
        },
        5 => Some(Kind::Text { wide: false }),
        6 => Some(Kind::Bool),
        // Times are metadata wherever they occur: their number is enough.
        10 | 18 => Some(Kind::Int { bytes: 8, signed: true }),
        12 => Some(Kind::List { wide: false }),
        13 => Some(Kind::Struct),
        16 => int(0).and_then(|len| usize::try_from(len).ok()).map(|len| Kind::FixedList { len }),
        20 => Some(Kind::Text { wide: true }),
        21 => Some(Kind::List { wide: true }),
        _ => None,
    };
    let kind = kind.filter(|_| field.table(4).is_none());
    let kind = kind.ok_or_else(|| format!("column {name:?} has a type that is not read here"))?;
    let children = field.tables(5).ok_or("its schema does not fit together")?;
    let children: Vec<Column> = children.iter().map(|child| column(child, depth + 1)).collect::<Result<_, _>>()?;
    let fits = match kind {
        Kind::List { .. } | Kind::FixedList { .. } => children.len() == 1,
        Kind::Struct => true,
        _ => children.is_empty(),
    };
    fits.then_some(Column { name, kind, children }).ok_or_else(|| "its schema does not fit together".to_string())
}

/// The columns of a batch, and its number of rows.
fn batch<'a>(schema: &'a [Column], header: &FlatTable<'_>, body: &'a [u8]) -> Option<(Vec<Values<'a>>, usize)> {
    let (mut nodes, mut buffers) = (header.pairs(1)?.into_iter(), header.pairs(2)?.into_iter());
    let len = usize::try_from(header.i64(0).unwrap_or(0)).ok()?;
    let columns: Option<Vec<Values<'a>>> =
        schema.iter().map(|column| values(column, &mut nodes, &mut buffers, body)).collect();
    columns.filter(|columns| columns.iter().all(|column| column.len == len)).map(|columns| (columns, len))
}

fn values<'a>(
    column: &'a Column,
    nodes: &mut impl Iterator<Item = (i64, i64)>,
    buffers: &mut impl Iterator<Item = (i64, i64)>,
    body: &'a [u8],
) -> Option<Values<'a>> {
    let len = usize::try_from(nodes.next()?.0).ok()?;
    let mut buffer = || {
        let (start, len) = buffers.next()?;
        let (start, len) = (usize::try_from(start).ok()?, usize::try_from(len).ok()?);
        body.get(start..start.checked_add(len)?)
    };
    let valid = if column.kind == Kind::Null { &[] } else { buffer()? };
    let (offsets, data) = match column.kind {
        Kind::Null | Kind::Struct | Kind::FixedList { .. } => (&[][..], &[][..]),
        Kind::Bool | Kind::Int { .. } | Kind::Float { .. } => (&[][..], buffer()?),
        Kind::List { .. } => (buffer()?, &[][..]),
        Kind::Text { .. } => (buffer()?, buffer()?),
    };
    let children = column.children.iter().map(|child| values(child, nodes, buffers, body)).collect::<Option<_>>()?;
    Some(Values { column, len, valid, offsets, data, children })
}

fn write_fields(columns: &[Values<'_>], index: usize, json: &mut String) -> Option<()> {
    json.push('{');
    for (number, column) in columns.iter().enumerate() {
        json.push_str(if number > 0 { "," } else { "" });
        json.push_str(raw(&column.column.name).get());
        json.push(':');
        column.write(index, json)?;
    }
    json.push('}');
    Some(())
}

impl Values<'_> {
    /// A value as JSON; `None` if it is not within the buffers.
    fn write(&self, index: usize, json: &mut String) -> Option<()> {
        if index >= self.len {
            return None;
        }
        let missing = !self.valid.is_empty() && !bit(self.valid, index)?;
        if missing || self.column.kind == Kind::Null {
            json.push_str("null");
            return Some(());
        }
        match self.column.kind {
            Kind::Null => {}
            Kind::Bool => json.push_str(if bit(self.data, index)? { "true" } else { "false" }),
            Kind::Int { bytes, signed } => json.push_str(&integer(self.data, index, bytes, signed)?),
            Kind::Float { bytes } => json.push_str(&number(self.data, index, bytes)?),
            Kind::Text { wide } => {
                let text = self.data.get(range(self.offsets, index, wide)?)?;
                json.push_str(raw(&std::str::from_utf8(text).ok()?).get());
            }
            Kind::List { wide } => self.write_list(range(self.offsets, index, wide)?, json)?,
            Kind::FixedList { len } => self.write_list(index.checked_mul(len)?..(index + 1).checked_mul(len)?, json)?,
            Kind::Struct => write_fields(&self.children, index, json)?,
        }
        Some(())
    }

    fn write_list(&self, elements: Range<usize>, json: &mut String) -> Option<()> {
        json.push('[');
        for index in elements.clone() {
            json.push_str(if index > elements.start { "," } else { "" });
            self.children.first()?.write(index, json)?;
        }
        json.push(']');
        Some(())
    }
}

fn bit(bits: &[u8], index: usize) -> Option<bool> {
    Some(bits.get(index / 8)? >> (index % 8) & 1 == 1)
}

fn range(offsets: &[u8], index: usize, wide: bool) -> Option<Range<usize>> {
    let bytes = if wide { 8 } else { 4 };
    let at = |index: usize| integer(offsets, index, bytes, true)?.parse::<usize>().ok();
    let (start, end) = (at(index)?, at(index + 1)?);
    (start <= end).then_some(start..end)
}

fn integer(data: &[u8], index: usize, bytes: usize, signed: bool) -> Option<String> {
    let number = data.get(index * bytes..(index + 1) * bytes)?;
    let fill = if signed && number.last()? >> 7 == 1 { 0xff } else { 0 };
    let mut wide = [fill; 16];
    wide[..bytes].copy_from_slice(number);
    Some(i128::from_le_bytes(wide).to_string())
}

/// A number; what is none is null, as pandas writes it.
fn number(data: &[u8], index: usize, bytes: usize) -> Option<String> {
    let number = data.get(index * bytes..(index + 1) * bytes)?;
    let value = match bytes {
        4 => f64::from(f32::from_le_bytes(number.try_into().ok()?)),
        _ => f64::from_le_bytes(number.try_into().ok()?),
    };
    Some(if value.is_finite() { format!("{value:?}") } else { "null".to_string() })
}
