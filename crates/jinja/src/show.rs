//! Values as texts: Python's `str()` and `repr()`. Invariant: what is written is paid for before it is written.

use crate::error::{Error, Result};
use crate::meter::Meter;
use crate::value::{Missing, Object, SeqKind, Str, TextBuilder, Value};

/// `str()` of a value.
pub(crate) fn text(value: &Value, meter: &mut Meter) -> Result<Str> {
    match value {
        Value::Str(text) => Ok(text.clone()),
        Value::Undefined(Missing::Unsafe(..)) => Err(missing(value)),
        Value::Undefined(_) => Ok(Str::new("", None)),
        value => {
            let mut out = TextBuilder::default();
            write_repr(&mut out, value, meter)?;
            Ok(out.finish())
        }
    }
}

/// `repr()` of a value.
pub(crate) fn repr(value: &Value, meter: &mut Meter) -> Result<Str> {
    let mut out = TextBuilder::default();
    write_repr(&mut out, value, meter)?;
    Ok(out.finish())
}

/// What is wrong with using what is not there.
pub(crate) fn missing(value: &Value) -> Error {
    Error::operation(match value {
        Value::Undefined(Missing::Variable(name)) => format!("'{}' is undefined", crate::error::excerpt(name)),
        Value::Undefined(Missing::Attribute(of, name)) => {
            format!("'{of} object' has no attribute '{}'", crate::error::excerpt(name))
        }
        Value::Undefined(Missing::Unsafe(of, name)) => {
            format!("'{name}' of a {of} would change it, which no template may")
        }
        _ => "a value is undefined".to_string(),
    })
}

fn write_repr(out: &mut TextBuilder, value: &Value, meter: &mut Meter) -> Result<()> {
    meter.steps(1)?;
    match value {
        Value::Undefined(_) => out.push_str("Undefined"),
        Value::None => out.push_str("None"),
        Value::Bool(value) => out.push_str(if *value { "True" } else { "False" }),
        Value::Int(value) => push(out, &value.to_string(), meter)?,
        Value::Float(value) => push(out, &float(*value), meter)?,
        Value::Str(text) => {
            meter.text(text.as_str().len())?;
            let start = out.text.len();
            write_quoted(&mut out.text, text.as_str());
            out.say_from(start, text.speaker());
        }
        Value::Seq(seq) => {
            let (open, close) = match seq.kind {
                SeqKind::List => ("[", "]"),
                SeqKind::Tuple if seq.items.len() == 1 => ("(", ",)"),
                SeqKind::Tuple | SeqKind::Group => ("(", ")"),
                SeqKind::Keys => ("dict_keys([", "])"),
                SeqKind::Values => ("dict_values([", "])"),
                SeqKind::Items => ("dict_items([", "])"),
                SeqKind::Range => return Err(Error::operation("a range is printed; print its list")),
            };
            push(out, open, meter)?;
            for (index, item) in seq.items.iter().enumerate() {
                push(out, if index > 0 { ", " } else { "" }, meter)?;
                write_repr(out, item, meter)?;
            }
            push(out, close, meter)?;
        }
        Value::Dict(dict) => {
            push(out, "{", meter)?;
            for (index, (key, value)) in dict.entries().iter().enumerate() {
                push(out, if index > 0 { ", " } else { "" }, meter)?;
                write_repr(out, key, meter)?;
                push(out, ": ", meter)?;
                write_repr(out, value, meter)?;
            }
            push(out, "}", meter)?;
        }
        Value::Object(Object::Function(_) | Object::Method(_)) => {
            return Err(Error::operation("a function is printed; call it"));
        }
        Value::Object(_) => {
            let what = value.type_name();
            return Err(Error::operation(format!("a {what} is printed, whose text is an address in Python")));
        }
    }
    Ok(())
}

fn push(out: &mut TextBuilder, text: &str, meter: &mut Meter) -> Result<()> {
    meter.text(text.len())?;
    out.push_str(text);
    Ok(())
}

/// Python's quoting: single quotes unless only double ones can do without escapes, and escapes for what does not print.
fn write_quoted(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c == quote => out.extend(['\\', c]),
            ' '..='~' => out.push(c),
            c if prints(c) => out.push(c),
            c => {
                let code = u32::from(c);
                out.push_str(&match code {
                    0..=0xff => format!("\\x{code:02x}"),
                    0x100..=0xffff => format!("\\u{code:04x}"),
                    _ => format!("\\U{code:08x}"),
                });
            }
        }
    }
    out.push(quote);
}

/// Python's `str.isprintable`, which is what Rust's own escapes go by, but for the combining characters that these escape.
fn prints(c: char) -> bool {
    // Behind another character a combining one stays as it is.
    let mut behind_another = String::from("a");
    behind_another.push(c);
    behind_another.escape_debug().nth(1) == Some(c)
}

/// Python's `repr` of a float: the shortest digits, an exponent below 1e-4 and from 1e16 on.
pub(crate) fn float(value: f64) -> String {
    if value.is_nan() {
        return "nan".to_string();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.to_string();
    }
    if value != 0.0 && !(1e-4..1e16).contains(&value.abs()) {
        return exponent_form(&format!("{value:e}"));
    }
    format!("{value:?}")
}

/// Rust's `1e20` as Python's `1e+20`.
pub(crate) fn exponent_form(scientific: &str) -> String {
    let (digits, exponent) = scientific.split_once('e').unwrap_or((scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}
