//! Parquet: tables stored by columns. Rows are put together one by one from the columns of a group, and become JSON
//! objects with the fields in the schema's order. Invariants: a missing value is null; what JSON has no word for (bytes,
//! numbers that are none) is refused by name; a place is a row's number.

use crate::DataError;
use crate::row::json_text::raw;
use crate::row::parser::RowParser;
use parquet::file::reader::FileReader;
use parquet::file::serialized_reader::SerializedFileReader;
use parquet::record::{Field, Row};
use remat_formats::guarded;
use std::fs::File;

/// What is said to have failed where it panics.
const LIBRARY: &str = "parquet";

pub(super) fn read(file: File, rows: &mut RowParser<'_, '_>) -> Result<(), DataError> {
    let path = rows.path().to_path_buf();
    let damaged = |reason: String| DataError::Damaged { path: path.clone(), reason };
    let reader = guarded(LIBRARY, || SerializedFileReader::new(file)).map_err(damaged)?;
    let mut all = guarded(LIBRARY, || reader.get_row_iter(None)).map_err(damaged)?;
    for number in 1.. {
        let Some(row) = guarded(LIBRARY, || all.next().transpose()).map_err(damaged)? else { break };
        let mut json = String::new();
        match write_row(&row, &mut json) {
            Ok(()) => rows.object(number, &json)?,
            Err((key, what)) => {
                let (place, expected) = (rows.place(number), format!("text, numbers, lists or structs, not {what}"));
                rows.settle(number, Err(DataError::BadMessage { place, key, expected }))?;
            }
        }
    }
    Ok(())
}

/// A value that JSON has no word for: its column, and what it is.
type NoJson = (String, &'static str);

fn write_row(row: &Row, json: &mut String) -> Result<(), NoJson> {
    json.push('{');
    for (index, (name, field)) in row.get_column_iter().enumerate() {
        json.push_str(if index > 0 { "," } else { "" });
        json.push_str(raw(name).get());
        json.push(':');
        write_field(field, json).map_err(|(inner, what)| {
            let dot = if inner.is_empty() || inner.starts_with('[') { "" } else { "." };
            (format!("{name}{dot}{inner}"), what)
        })?;
    }
    json.push('}');
    Ok(())
}

fn write_field(field: &Field, json: &mut String) -> Result<(), NoJson> {
    let plain = |json: &mut String, text: String| json.push_str(&text);
    match field {
        Field::Null => json.push_str("null"),
        Field::Str(text) => json.push_str(raw(text).get()),
        Field::Bool(value) => plain(json, value.to_string()),
        Field::Byte(value) => plain(json, value.to_string()),
        Field::Short(value) => plain(json, value.to_string()),
        Field::Int(value) => plain(json, value.to_string()),
        Field::Long(value) => plain(json, value.to_string()),
        Field::UByte(value) => plain(json, value.to_string()),
        Field::UShort(value) => plain(json, value.to_string()),
        Field::UInt(value) => plain(json, value.to_string()),
        Field::ULong(value) => plain(json, value.to_string()),
        Field::Float(value) => write_number(f64::from(*value), json),
        Field::Float16(value) => write_number(f64::from(f32::from(*value)), json),
        Field::Double(value) => write_number(*value, json),
        Field::Group(row) => write_row(row, json)?,
        Field::ListInternal(list) => {
            json.push('[');
            for (index, element) in list.elements().iter().enumerate() {
                json.push_str(if index > 0 { "," } else { "" });
                write_field(element, json).map_err(|(inner, what)| (format!("[{index}]{inner}"), what))?;
            }
            json.push(']');
        }
        Field::MapInternal(map) => {
            json.push('{');
            for (index, (key, value)) in map.entries().iter().enumerate() {
                let Field::Str(key) = key else { return Err((String::new(), "a map whose keys are no texts")) };
                json.push_str(if index > 0 { "," } else { "" });
                json.push_str(raw(key).get());
                json.push(':');
                write_field(value, json)?;
            }
            json.push('}');
        }
        Field::Bytes(_) => return Err((String::new(), "bytes")),
        // Dates and decimals are metadata wherever they occur: their text is enough.
        other => json.push_str(raw(&other.to_string()).get()),
    }
    Ok(())
}

/// A number; what is none is null, as pandas writes it.
fn write_number(value: f64, json: &mut String) {
    json.push_str(&if value.is_finite() { format!("{value:?}") } else { "null".to_string() });
}
