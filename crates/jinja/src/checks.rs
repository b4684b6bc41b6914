//! Tests: what stands behind `is`. Invariant: an answer, for every value; only what Python cannot compare is an error.

use crate::args::{Args, int};
use crate::ast::Comparison;
use crate::builtins::{Filter, Test};
use crate::comparing::{self, contains, equal};
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::value::{Object, SeqKind, Value};
use crate::{methods, show};
use std::sync::Arc;

/// Whether a test holds of a value, with its arguments.
#[inline(never)]
pub(crate) fn holds(test: Test, interp: &mut Interp<'_>, value: &Value, args: Args) -> Result<bool> {
    match test {
        Test::Defined => plain(args, !value.is_undefined()),
        Test::Undefined => plain(args, value.is_undefined()),
        Test::None => plain(args, matches!(value, Value::None)),
        Test::Boolean => plain(args, matches!(value, Value::Bool(_))),
        Test::True => plain(args, matches!(value, Value::Bool(true))),
        Test::False => plain(args, matches!(value, Value::Bool(false))),
        Test::Integer => plain(args, matches!(value, Value::Int(_))),
        Test::Float => plain(args, matches!(value, Value::Float(_))),
        Test::Number => plain(args, value.number().is_some()),
        Test::String => plain(args, matches!(value, Value::Str(_))),
        Test::Mapping => plain(args, matches!(value, Value::Dict(_))),
        Test::Iterable => plain(args, is_iterable(value)),
        Test::Sequence => plain(args, is_sequence(value)),
        Test::Callable => plain(args, is_callable(value)),
        Test::Escaped => plain(args, false),
        Test::Odd => plain(args, number(value)?.rem_euclid(2) == 1),
        Test::Even => plain(args, number(value)?.rem_euclid(2) == 0),
        Test::Divisibleby => {
            let by = int("divisibleby", &one(args)?)?;
            let value = number(value)?;
            value.checked_rem(by).map(|rest| rest == 0).ok_or_else(|| Error::operation("division by zero"))
        }
        Test::Lower => case(interp, value, args, "islower"),
        Test::Upper => case(interp, value, args, "isupper"),
        Test::Sameas => same(interp, value, &one(args)?),
        Test::In => within(interp, value, &one(args)?),
        Test::Eq => compare(interp, Comparison::Eq, value, args),
        Test::Ne => compare(interp, Comparison::Ne, value, args),
        Test::Lt => compare(interp, Comparison::Lt, value, args),
        Test::Le => compare(interp, Comparison::Le, value, args),
        Test::Gt => compare(interp, Comparison::Gt, value, args),
        Test::Ge => compare(interp, Comparison::Ge, value, args),
        Test::Filter => plain(args, value.as_str().and_then(Filter::named).is_some()),
        Test::Test => plain(args, value.as_str().and_then(Test::named).is_some()),
    }
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
    comparing::compare(comparison, value, &other, &mut interp.meter)
}

fn within(interp: &mut Interp<'_>, value: &Value, container: &Value) -> Result<bool> {
    match container {
        Value::Object(_) => {
            let items = interp.iterate(container)?.into_vec(&mut interp.meter)?;
            contains(&Value::list(items)?, value, &mut interp.meter)
        }
        container => contains(container, value, &mut interp.meter),
    }
}

fn case(interp: &mut Interp<'_>, value: &Value, args: Args, method: &str) -> Result<bool> {
    let text = Value::Str(show::text(value, &mut interp.meter)?);
    methods::call(interp, &text, &method.into(), args).map(|answer| answer.is_true())
}

/// Whether `iter()` takes it.
fn is_iterable(value: &Value) -> bool {
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
        (left, right) => left.type_name() == right.type_name() && equal(left, right, &mut interp.meter)?,
    })
}
