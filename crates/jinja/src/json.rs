//! JSON as Python's `json.dumps` writes it, which is what published templates were written against.
//!
//! Differences from other writers: `", "` and `": "` as separators, keys in the order of the conversation, floats in
//! Python's form (`1.0`, `1e+20`), no escape but the ones JSON demands. Invariant: paid for before it is written.

use crate::error::{Error, Result};
use crate::meter::Meter;
use crate::show;
use crate::value::{SeqKind, Str, TextBuilder, Value};
use std::fmt::Write;

/// The options of `json.dumps`.
pub(crate) struct Style {
    /// What a level is indented by; none: all in one line.
    pub(crate) indent: Option<String>,
    pub(crate) item_separator: String,
    pub(crate) key_separator: String,
    pub(crate) sort_keys: bool,
    pub(crate) ascii: bool,
}

/// The JSON text of a value.
pub(crate) fn dump(value: &Value, style: &Style, meter: &mut Meter) -> Result<Str> {
    let mut writer = Writer { out: TextBuilder::default(), style, meter };
    writer.value(value, 0)?;
    Ok(writer.out.finish())
}

struct Writer<'a> {
    out: TextBuilder,
    style: &'a Style,
    meter: &'a mut Meter,
}

impl Writer<'_> {
    fn push(&mut self, text: &str) -> Result<()> {
        self.meter.text(text.len())?;
        self.out.push_str(text);
        Ok(())
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<()> {
        self.meter.steps(1)?;
        match value {
            Value::None => self.push("null"),
            Value::Bool(value) => self.push(if *value { "true" } else { "false" }),
            Value::Int(value) => self.push(&value.to_string()),
            Value::Float(value) => self.push(&number(*value)),
            Value::Str(text) => {
                let start = self.out.text.len();
                self.string(text.as_str())?;
                self.out.say_from(start, text.speaker());
                Ok(())
            }
            Value::Dict(dict) => {
                let mut entries: Vec<(Str, &Value)> = Vec::new();
                self.meter.list(dict.entries().len())?;
                for (key, value) in dict.entries() {
                    entries.push((self.key(key)?, value));
                }
                if self.style.sort_keys {
                    self.meter.steps(entries.len().saturating_mul(1 + entries.len().ilog2_or_zero()))?;
                    entries.sort_by(|(left, _), (right, _)| left.as_str().cmp(right.as_str()));
                }
                self.items(('{', '}'), depth, entries.len(), |writer, index| {
                    writer.string(entries[index].0.as_str())?;
                    writer.push(&writer.style.key_separator)?;
                    writer.value(entries[index].1, depth + 1)
                })
            }
            Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Group) => {
                self.items(('[', ']'), depth, seq.items.len(), |writer, index| {
                    writer.value(&seq.items[index], depth + 1)
                })
            }
            other => Err(Error::operation(format!("tojson of a value of type {}", other.type_name()))),
        }
    }

    fn key(&mut self, key: &Value) -> Result<Str> {
        match key {
            Value::Str(text) => Ok(text.clone()),
            Value::None => Ok(Str::new("null", None)),
            Value::Bool(value) => Ok(Str::new(value.to_string(), None)),
            Value::Float(value) => Ok(Str::new(number(*value), None)),
            key => show::text(key, self.meter),
        }
    }

    fn items(
        &mut self,
        (open, close): (char, char),
        depth: usize,
        count: usize,
        mut item: impl FnMut(&mut Self, usize) -> Result<()>,
    ) -> Result<()> {
        self.push(open.encode_utf8(&mut [0; 4]))?;
        for index in 0..count {
            if index > 0 {
                self.push(&self.style.item_separator)?;
            }
            self.new_line(depth + 1)?;
            item(self, index)?;
        }
        if count > 0 {
            self.new_line(depth)?;
        }
        self.push(close.encode_utf8(&mut [0; 4]))
    }

    fn new_line(&mut self, depth: usize) -> Result<()> {
        if let Some(indent) = &self.style.indent {
            self.meter.text(indent.len().saturating_mul(depth) + 1)?;
            self.out.push_str("\n");
            (0..depth).for_each(|_| self.out.push_str(indent));
        }
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<()> {
        // No character takes more than twelve bytes.
        self.meter.text(text.len().saturating_mul(2) + 2)?;
        let out = &mut self.out.text;
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
                c if c < ' ' || (self.style.ascii && c > '~') => {
                    let mut units = [0; 2];
                    for unit in c.encode_utf16(&mut units) {
                        write!(out, "\\u{unit:04x}").expect("writing to a string");
                    }
                }
                c => out.push(c),
            }
        }
        out.push('"');
        Ok(())
    }
}

trait Logarithm {
    fn ilog2_or_zero(self) -> usize;
}

impl Logarithm for usize {
    fn ilog2_or_zero(self) -> usize {
        self.checked_ilog2().unwrap_or(0) as usize
    }
}

fn number(value: f64) -> String {
    match value {
        value if value.is_nan() => "NaN".to_string(),
        f64::INFINITY => "Infinity".to_string(),
        f64::NEG_INFINITY => "-Infinity".to_string(),
        value => show::float(value),
    }
}
