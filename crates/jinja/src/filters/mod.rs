//! Filters: what stands behind `|`. Jinja2's own, with transformers' `tojson`; left out are those whose result is another
//! every time (`random`) or that make HTML (`urlize`, `xmlattr`). Invariant: as everywhere, paid for first.
//!
//! `texts` has those of texts and numbers, `lists` those of lists, `picks` those that map and select.

mod lists;
mod picks;
mod texts;

use crate::calls::Args;
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::json;
use crate::value::{Object, SeqKind, Value};

/// A filter: what it is given, and its arguments.
pub(crate) type Filter = fn(&mut Interp<'_>, Value, Args) -> Result<Value>;

/// The filter of this name.
pub(crate) fn named(name: &str) -> Option<Filter> {
    Some(match name {
        "abs" => texts::abs,
        "attr" => picks::attr,
        "batch" => lists::batch,
        "capitalize" => texts::capitalize,
        "center" => texts::center,
        "count" | "length" => length,
        "d" | "default" => default,
        "dictsort" => lists::dictsort,
        "e" | "escape" | "forceescape" => texts::escape,
        "first" => lists::first,
        "float" => texts::float,
        "format" => texts::format,
        "groupby" => lists::groupby,
        "indent" => texts::indent,
        "int" => texts::int,
        "items" => lists::items,
        "join" => lists::join,
        "last" => lists::last,
        "list" => lists::list,
        "lower" => texts::lower,
        "map" => picks::map,
        "max" => lists::max,
        "min" => lists::min,
        "pprint" => texts::pprint,
        "reject" => picks::reject,
        "rejectattr" => picks::rejectattr,
        "replace" => texts::replace,
        "reverse" => lists::reverse,
        "round" => texts::round,
        "safe" | "string" => texts::string,
        "select" => picks::select,
        "selectattr" => picks::selectattr,
        "slice" => lists::slice,
        "sort" => lists::sort,
        "striptags" => texts::striptags,
        "sum" => lists::sum,
        "title" => texts::title,
        "tojson" => tojson,
        "trim" => texts::trim,
        "truncate" => texts::truncate,
        "unique" => lists::unique,
        "upper" => texts::upper,
        "urlencode" => texts::urlencode,
        "wordcount" => texts::wordcount,
        "wordwrap" => texts::wordwrap,
        _ => return None,
    })
}

/// `len()`.
fn length(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
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

fn default(_: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [default, boolean] = args.bind("default", ["default_value", "boolean"])?;
    let absent = value.is_undefined() || (boolean.is_some_and(|boolean| boolean.is_true()) && !value.is_true());
    Ok(if absent { default.unwrap_or_else(|| Value::text("")) } else { value })
}

/// transformers' `tojson`: Python's, with characters beyond ASCII as they are.
fn tojson(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let names = ["ensure_ascii", "indent", "separators", "sort_keys"];
    let [ascii, indent, separators, sort_keys] = args.bind("tojson", names)?;
    let indent = match indent {
        None | Some(Value::None) => None,
        Some(Value::Str(text)) => Some(text.as_str().to_string()),
        Some(indent) => {
            let width = crate::calls::count("tojson", &indent)?;
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
