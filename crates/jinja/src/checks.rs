//! Tests: what stands behind `is`. Invariant: an answer, for every value; only what Python cannot compare is an error.

use crate::ast::Comparison;
use crate::calls::{Args, int};
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::ops;
use crate::value::{Number, Object, SeqKind, Value};
use std::sync::Arc;

/// A test of a value with its arguments.
pub(crate) type Test = fn(&mut Interp<'_>, &Value, Args) -> Result<bool>;

/// The test of this name.
pub(crate) fn named(name: &str) -> Option<Test> {
    Some(match name {
        "defined" => |_, value, args| plain(args, !value.is_undefined()),
        "undefined" => |_, value, args| plain(args, value.is_undefined()),
        "none" => |_, value, args| plain(args, matches!(value, Value::None)),
        "boolean" => |_, value, args| plain(args, matches!(value, Value::Bool(_))),
        "true" => |_, value, args| plain(args, matches!(value, Value::Bool(true))),
        "false" => |_, value, args| plain(args, matches!(value, Value::Bool(false))),
        "integer" => |_, value, args| plain(args, matches!(value, Value::Int(_))),
        "float" => |_, value, args| plain(args, matches!(value, Value::Float(_))),
        "number" => |_, value, args| plain(args, Number::of(value).is_some()),
        "string" => |_, value, args| plain(args, matches!(value, Value::Str(_))),
        "mapping" => |_, value, args| plain(args, matches!(value, Value::Dict(_))),
        "iterable" => |_, value, args| plain(args, is_iterable(value)),
        "sequence" => |_, value, args| plain(args, is_sequence(value)),
        "callable" => |_, value, args| plain(args, is_callable(value)),
        "escaped" => |_, _, args| plain(args, false),
        "odd" => |_, value, args| plain(args, number(value)?.rem_euclid(2) == 1),
        "even" => |_, value, args| plain(args, number(value)?.rem_euclid(2) == 0),
        "divisibleby" => |_, value, args| {
            let by = int("divisibleby", &one(args)?)?;
            let value = number(value)?;
            value.checked_rem(by).map(|rest| rest == 0).ok_or_else(|| Error::operation("division by zero"))
        },
        "lower" => |interp, value, args| case(interp, value, args, "islower"),
        "upper" => |interp, value, args| case(interp, value, args, "isupper"),
        "sameas" => |interp, value, args| {
            let other = one(args)?;
            same(interp, value, &other)
        },
        "in" => |interp, value, args| {
            let container = one(args)?;
            match container {
                Value::Object(_) => {
                    let items = interp.iterate(&container)?.into_vec(&mut interp.meter)?;
                    ops::contains(&Value::list(items)?, value, &mut interp.meter)
                }
                container => ops::contains(&container, value, &mut interp.meter),
            }
        },
        "eq" | "==" | "equalto" => |interp, value, args| compare(interp, Comparison::Eq, value, args),
        "ne" | "!=" => |interp, value, args| compare(interp, Comparison::Ne, value, args),
        "lt" | "<" | "lessthan" => |interp, value, args| compare(interp, Comparison::Lt, value, args),
        "le" | "<=" => |interp, value, args| compare(interp, Comparison::Le, value, args),
        "gt" | ">" | "greaterthan" => |interp, value, args| compare(interp, Comparison::Gt, value, args),
        "ge" | ">=" => |interp, value, args| compare(interp, Comparison::Ge, value, args),
        "filter" => {
            |_, value, args| plain(args, value.as_str().is_some_and(|name| crate::filters::named(name).is_some()))
        }
        "test" => |_, value, args| plain(args, value.as_str().is_some_and(|name| named(name).is_some())),
        _ => return None,
    })
}

fn plain(args: Args, answer: bool) -> Result<bool> {
    args.none("a test").map(|()| answer)
}

fn one(args: Args) -> Result<Value> {
    let [value] = args.bind("a test", ["other"])?;
    value.ok_or_else(|| Error::operation("a test needs an argument"))
}

fn number(value: &Value) -> Result<i128> {
    int("a test", value)
}

fn compare(interp: &mut Interp<'_>, comparison: Comparison, value: &Value, args: Args) -> Result<bool> {
    let other = one(args)?;
    ops::compare(comparison, value, &other, &mut interp.meter)
}

fn case(interp: &mut Interp<'_>, value: &Value, args: Args, method: &str) -> Result<bool> {
    let text = Value::Str(crate::show::text(value, &mut interp.meter)?);
    crate::methods::call(interp, &text, &method.into(), args).map(|answer| answer.is_true())
}

/// Whether `iter()` takes it.
pub(crate) fn is_iterable(value: &Value) -> bool {
    match value {
        Value::Undefined(_) | Value::Str(_) | Value::Seq(_) | Value::Dict(_) => true,
        Value::Object(object) => matches!(object, Object::Generator(_) | Object::Loop(_)),
        _ => false,
    }
}

/// Whether it has a length and can be indexed, as Jinja asks; a dictionary does.
fn is_sequence(value: &Value) -> bool {
    match value {
        Value::Undefined(_) | Value::Str(_) | Value::Dict(_) => true,
        Value::Seq(seq) => !matches!(seq.kind, SeqKind::Keys | SeqKind::Values | SeqKind::Items),
        _ => false,
    }
}

fn is_callable(value: &Value) -> bool {
    match value {
        // Calling what is undefined fails, but it has the method.
        Value::Undefined(_) => true,
        Value::Object(object) => !matches!(object, Object::Namespace(_) | Object::Generator(_) | Object::Cycler(_)),
        _ => false,
    }
}

/// Python's `is`: small values are themselves wherever they come from.
fn same(interp: &mut Interp<'_>, left: &Value, right: &Value) -> Result<bool> {
    Ok(match (left, right) {
        (Value::Seq(left), Value::Seq(right)) => Arc::ptr_eq(left, right),
        (Value::Dict(left), Value::Dict(right)) => Arc::ptr_eq(left, right),
        (left, right) => left.type_name() == right.type_name() && ops::equal(left, right, &mut interp.meter)?,
    })
}
