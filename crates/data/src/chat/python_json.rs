//! JSON as Python's `json.dumps` writes it, which is what published templates were written against.
//!
//! Differences from other writers: `", "` and `": "` as separators, keys in the order of the conversation, floats in
//! Python's form (`1.0`, `1e+20`), no escape but the ones JSON demands.

use minijinja::Value;
use minijinja::value::ValueKind;
use std::fmt::Write;

/// Deepest nesting that is written.
const MAX_DEPTH: usize = 128;

/// The options of `json.dumps`.
pub(crate) struct Style {
    pub(crate) indent: Option<usize>,
    pub(crate) item_separator: String,
    pub(crate) key_separator: String,
    pub(crate) sort_keys: bool,
    pub(crate) ascii: bool,
}

impl Style {
    pub(crate) fn new(indent: Option<usize>) -> Self {
        // With an indent, Python puts no space at the end of a line.
        let item_separator = if indent.is_some() { "," } else { ", " }.to_string();
        Style { indent, item_separator, key_separator: ": ".to_string(), sort_keys: false, ascii: false }
    }
}

/// The JSON text of a value.
pub(crate) fn dump(value: &Value, style: &Style) -> Result<String, String> {
    let mut out = String::new();
    write_value(&mut out, value, style, 0)?;
    Ok(out)
}

fn write_value(out: &mut String, value: &Value, style: &Style, depth: usize) -> Result<(), String> {
    if depth > MAX_DEPTH {
        return Err(format!("tojson of a value nested more than {MAX_DEPTH} deep"));
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_string(out, value.as_str().unwrap_or_default(), style.ascii),
        ValueKind::Map => {
            let mut entries: Vec<(String, Value)> = Vec::new();
            for key in value.try_iter().map_err(|error| error.to_string())? {
                let item = value.get_item(&key).map_err(|error| error.to_string())?;
                entries.push((key.to_string(), item));
            }
            if style.sort_keys {
                entries.sort_by(|(left, _), (right, _)| left.cmp(right));
            }
            let write = |out: &mut String, (key, item): &(String, Value)| {
                write_string(out, key, style.ascii);
                out.push_str(&style.key_separator);
                write_value(out, item, style, depth + 1)
            };
            write_items(out, ('{', '}'), &entries, style, depth, write)?;
        }
        ValueKind::Seq | ValueKind::Iterable => {
            let items: Vec<Value> = value.try_iter().map_err(|error| error.to_string())?.collect();
            let write = |out: &mut String, item: &Value| write_value(out, item, style, depth + 1);
            write_items(out, ('[', ']'), &items, style, depth, write)?;
        }
        kind => return Err(format!("tojson of a value of type {kind}, which JSON does not have")),
    }
    Ok(())
}

fn write_items<T>(
    out: &mut String,
    (open, close): (char, char),
    items: &[T],
    style: &Style,
    depth: usize,
    write: impl Fn(&mut String, &T) -> Result<(), String>,
) -> Result<(), String> {
    out.push(open);
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            out.push_str(&style.item_separator);
        }
        new_line(out, style, depth + 1);
        write(out, item)?;
    }
    if !items.is_empty() {
        new_line(out, style, depth);
    }
    out.push(close);
    Ok(())
}

fn new_line(out: &mut String, style: &Style, depth: usize) {
    if let Some(indent) = style.indent {
        out.push('\n');
        out.extend(std::iter::repeat_n(' ', indent * depth));
    }
}

fn write_string(out: &mut String, text: &str, ascii: bool) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ascii && !c.is_ascii()) => {
                let mut units = [0; 2];
                for unit in c.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}").expect("writing to a string");
                }
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

/// Integers as they are; floats as Python's `repr`: the shortest digits, an exponent below 1e-4 and from 1e16 on.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    let Ok(float) = f64::try_from(value.clone()) else { return value.to_string() };
    if float.is_nan() {
        return "NaN".to_string();
    }
    if float.is_infinite() {
        return if float > 0.0 { "Infinity" } else { "-Infinity" }.to_string();
    }
    if float != 0.0 && !(1e-4..1e16).contains(&float.abs()) {
        let scientific = format!("{float:e}");
        let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let exponent: i32 = exponent.parse().unwrap_or(0);
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{digits}e{sign}{:02}", exponent.unsigned_abs());
    }
    format!("{float:?}")
}
