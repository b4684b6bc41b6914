//! Python's methods of texts, lists and dictionaries, but for those that change a value. Invariant: paid for by the length
//! of what is looked at and made.

mod cutting;
mod letters;

pub(crate) use cutting::{lines, replace, strip};
pub(crate) use letters::is_space;

use crate::args::{Args, count, int};
use crate::ast::Name;
use crate::comparing::{check_key, equal};
use crate::error::{Error, Result};
use crate::format;
use crate::interp::Interp;
use crate::meter::Meter;
use crate::value::{Dict, SeqKind, Str, TextBuilder, Value};
use cutting::{affix, expand_tabs, find, pad, split, string};
use letters::{capitalize, has_case, swap_case, title};

const OF_TEXTS: [&str; 42] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "islower",
    "isnumeric",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
    "zfill",
    "isidentifier",
];

/// Whether a value has a method of this name.
pub(crate) fn has(value: &Value, name: &str) -> bool {
    match value {
        Value::Str(_) => OF_TEXTS.contains(&name),
        Value::Dict(_) => matches!(name, "get" | "items" | "keys" | "values" | "copy"),
        Value::Seq(seq) if seq.kind == SeqKind::List => matches!(name, "count" | "index" | "copy"),
        Value::Seq(seq) if matches!(seq.kind, SeqKind::Tuple | SeqKind::Range) => matches!(name, "count" | "index"),
        _ => false,
    }
}

/// Calls a method that [`has`] knows.
pub(crate) fn call(interp: &mut Interp<'_>, value: &Value, name: &Name, args: Args) -> Result<Value> {
    let meter = &mut interp.meter;
    match value {
        Value::Dict(dict) => of_dict(dict, value, name, args, meter),
        Value::Seq(seq) => {
            if **name == *"copy" {
                args.none(name)?;
                return Ok(value.clone());
            }
            let [wanted] = args.bind(name, ["value"])?;
            let wanted = wanted.ok_or_else(|| Error::operation(format!("{name} takes one argument")))?;
            let mut found = 0;
            for (index, item) in seq.items.iter().enumerate() {
                if equal(item, &wanted, meter)? {
                    if **name == *"index" {
                        return Ok(Value::Int(index as i128));
                    }
                    found += 1;
                }
            }
            match &**name {
                "count" => Ok(Value::Int(found)),
                _ => Err(Error::operation("the value is not in the list")),
            }
        }
        Value::Str(text) => match &**name {
            "join" => {
                let [items] = args.bind(name, ["iterable"])?;
                let items = interp.iterate(&items.unwrap_or(Value::None))?;
                join(text, &items, &mut interp.meter)
            }
            "format" => format::braces(text, &args.positional, &args.named, meter),
            _ => of_text(text, name, args, meter),
        },
        other => Err(Error::operation(format!("a value of type {} has no method {name}", other.type_name()))),
    }
}

fn of_dict(dict: &Dict, value: &Value, name: &str, args: Args, meter: &mut Meter) -> Result<Value> {
    let all = |meter: &mut Meter| meter.list(dict.entries().len());
    match name {
        "get" => {
            let [key, default] = args.bind(name, ["key", "default"])?;
            let key = key.ok_or_else(|| Error::operation("get expected at least 1 argument, got 0"))?;
            check_key(&key)?;
            meter.steps(dict.look_up_steps(&key))?;
            Ok(dict.get(&key).cloned().or(default).unwrap_or(Value::None))
        }
        "keys" => {
            args.none(name)?;
            all(meter)?;
            Value::seq(SeqKind::Keys, dict.entries().iter().map(|(key, _)| key.clone()).collect())
        }
        "values" => {
            args.none(name)?;
            all(meter)?;
            Value::seq(SeqKind::Values, dict.entries().iter().map(|(_, value)| value.clone()).collect())
        }
        "items" => {
            args.none(name)?;
            pairs(dict, meter)
        }
        _ => {
            args.none(name)?;
            Ok(value.clone())
        }
    }
}

/// `d.items()`.
pub(crate) fn pairs(dict: &Dict, meter: &mut Meter) -> Result<Value> {
    meter.list(dict.entries().len().saturating_mul(4))?;
    let pair = |(key, value): &(Value, Value)| Value::tuple(vec![key.clone(), value.clone()]);
    Value::seq(SeqKind::Items, dict.entries().iter().map(pair).collect::<Result<_>>()?)
}

/// `joiner.join(items)`: all must be texts.
fn join(joiner: &Str, items: &[Value], meter: &mut Meter) -> Result<Value> {
    let mut joined = TextBuilder::default();
    for (index, item) in items.iter().enumerate() {
        let Value::Str(item) = item else {
            return Err(Error::operation(format!("join needs texts, not {}", item.type_name())));
        };
        meter.text(item.as_str().len() + joiner.as_str().len())?;
        if index > 0 {
            joined.push(joiner);
        }
        joined.push(item);
    }
    Ok(Value::Str(joined.finish()))
}

fn of_text(text: &Str, name: &str, args: Args, meter: &mut Meter) -> Result<Value> {
    let all = text.as_str();
    meter.text(all.len())?;
    match name {
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = args.bind(name, ["chars"])?;
            strip(text, name, chars.as_ref())
        }
        "split" | "rsplit" => {
            let [separator, most] = args.bind(name, ["sep", "maxsplit"])?;
            split(text, name == "rsplit", separator.as_ref(), most.as_ref(), meter)
        }
        "splitlines" => {
            let [keep] = args.bind(name, ["keepends"])?;
            lines(text, keep.is_some_and(|keep| keep.is_true()), meter)
        }
        "startswith" | "endswith" => affix(text, name, args, meter),
        "removeprefix" | "removesuffix" => {
            let [affix] = args.bind(name, ["affix"])?;
            let affix = string(name, affix.as_ref())?;
            let (from, to) = match name {
                "removeprefix" if all.starts_with(affix.as_str()) => (affix.as_str().len(), all.len()),
                "removesuffix" if all.ends_with(affix.as_str()) => (0, all.len() - affix.as_str().len()),
                _ => (0, all.len()),
            };
            Ok(Value::Str(text.part(from, to)))
        }
        "partition" | "rpartition" => {
            let [separator] = args.bind(name, ["sep"])?;
            let separator = string(name, separator.as_ref())?;
            if separator.as_str().is_empty() {
                return Err(Error::operation("empty separator"));
            }
            let last = name == "rpartition";
            let at = if last { all.rfind(separator.as_str()) } else { all.find(separator.as_str()) };
            let empty = || Value::text("");
            meter.list(3)?;
            Value::tuple(match at {
                Some(at) => {
                    let end = at + separator.as_str().len();
                    [text.part(0, at), text.part(at, end), text.part(end, all.len())].map(Value::Str).to_vec()
                }
                None if last => vec![empty(), empty(), Value::Str(text.clone())],
                None => vec![Value::Str(text.clone()), empty(), empty()],
            })
        }
        "replace" => {
            let [old, new, most] = args.bind(name, ["old", "new", "count"])?;
            let (old, new) = (string(name, old.as_ref())?, string(name, new.as_ref())?);
            let most = most.map_or(Ok(-1), |most| int(name, &most))?;
            replace(text, old.as_str(), new, most, meter).map(Value::Str)
        }
        "count" | "find" | "rfind" | "index" | "rindex" => find(text, name, args),
        "center" | "ljust" | "rjust" | "zfill" => pad(text, name, args, meter),
        "expandtabs" => {
            let [size] = args.bind(name, ["tabsize"])?;
            expand_tabs(text, size.map_or(Ok(8), |size| count(name, &size))?, meter)
        }
        _ => {
            args.none(name)?;
            Ok(changed_or_tested(text, name))
        }
    }
}

/// Methods without arguments: another case of the text, or a question about it.
fn changed_or_tested(text: &Str, name: &str) -> Value {
    let all = text.as_str();
    let every = |test: fn(char) -> bool| Value::Bool(!all.is_empty() && all.chars().all(test));
    let made = |made: String| Value::Str(text.remade(made));
    match name {
        "lower" => made(all.to_lowercase()),
        "casefold" => made(all.to_lowercase().replace('ß', "ss")),
        "upper" => made(all.to_uppercase()),
        "capitalize" => made(capitalize(all)),
        "title" => made(title(all)),
        "swapcase" => made(all.chars().flat_map(swap_case).collect()),
        "isalnum" => every(char::is_alphanumeric),
        "isalpha" => every(char::is_alphabetic),
        "isascii" => Value::Bool(all.is_ascii()),
        "isdecimal" | "isdigit" => every(|c| c.is_numeric() && (c.is_ascii_digit() || !c.is_ascii())),
        "isnumeric" => every(char::is_numeric),
        "isspace" => every(is_space),
        "islower" => Value::Bool(has_case(all) && all.chars().all(|c| !c.is_uppercase())),
        "isupper" => Value::Bool(has_case(all) && all.chars().all(|c| !c.is_lowercase())),
        "istitle" => Value::Bool(has_case(all) && title(all) == all),
        _ => {
            let start = all.chars().next().is_some_and(|c| c == '_' || c.is_alphabetic());
            Value::Bool(start && all.chars().all(|c| c == '_' || c.is_alphanumeric()))
        }
    }
}
