//! Filters of any value. Invariant: as everywhere, paid for first.

use crate::args::{Args, count};
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::value::{Object, SeqKind, Value};
use crate::{json, methods, show};

/// `attr(name)`: an attribute, never a key.
pub(super) fn attr(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [name] = args.bind("attr", ["name"])?;
    let name = show::text(&name.unwrap_or(Value::UNDEFINED), &mut interp.meter)?;
    match &value {
        Value::Dict(_) if !methods::has(&value, name.as_str()) => Ok(Value::UNDEFINED),
        value => interp.attribute(value, name.text()),
    }
}

/// `len()`.
pub(super) fn length(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("length")?;
    let length = match &value {
        Value::Undefined(_) => 0,
        Value::Str(text) => {
            interp.meter.scan(text.as_str().len())?;
            text.as_str().chars().count()
        }
        Value::Seq(seq) => seq.items.len(),
        Value::Dict(dict) => dict.entries().len(),
        Value::Object(Object::Loop(number)) => interp.loops[*number].items.len(),
        other => return Err(Error::operation(format!("a value of type {} has no length", other.type_name()))),
    };
    Ok(Value::Int(length as i128))
}

pub(super) fn default(_: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [default, boolean] = args.bind("default", ["default_value", "boolean"])?;
    let absent = value.is_undefined() || (boolean.is_some_and(|boolean| boolean.is_true()) && !value.is_true());
    Ok(if absent { default.unwrap_or_else(|| Value::text("")) } else { value })
}

/// transformers' `tojson`: Python's, with characters beyond ASCII as they are.
pub(super) fn tojson(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = args.bind("tojson", names)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text.as_str().to_string()),
        Some(indent) => {
            let width = count("tojson", &indent)?;
            interp.meter.text(width)?;
            Some(" ".repeat(width))
        }
    };
    // With an indent, Python puts no space at the end of a line.
    let item_separator = if indent.is_some() { "," } else { ", " }.to_string();
    let mut style = json::Style {
        indent,
        item_separator,
        key_separator: ": ".to_string(),
        sort_keys: sort_keys.is_some_and(|value| value.is_true()),
        ascii: ascii.is_some_and(|value| value.is_true()),
    };
    match separators {
        None | Some(Value::None) => {}
        Some(Value::Seq(seq)) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            let [Value::Str(item), Value::Str(key)] = &seq.items[..] else {
                return Err(Error::operation("tojson: separators are two texts"));
            };
            (style.item_separator, style.key_separator) = (item.as_str().to_string(), key.as_str().to_string());
        }
        Some(_) => return Err(Error::operation("tojson: separators are two texts")),
    }
    json::dump(&value, &style, &mut interp.meter).map(Value::Str)
}
