//! Which values are equal, which comes first, and what is in what, as Python has it. Invariant: whatever depends on the size
//! of an operand is paid for first.

use crate::ast::Comparison;
use crate::error::{Error, Result};
use crate::meter::Meter;
use crate::number::Number;
use crate::show::missing;
use crate::value::{Missing, Value};
use std::cmp::Ordering;

/// Python's `==`.
pub(crate) fn equal(left: &Value, right: &Value, meter: &mut Meter) -> Result<bool> {
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => {
            let (left, right) = (left.as_str(), right.as_str());
            meter.scan(if left.len() == right.len() { left.len() } else { 0 })?;
            Ok(left == right)
        }
        (Value::Seq(left), Value::Seq(right)) => {
            meter.steps(1)?;
            if left.kind != right.kind || left.items.len() != right.items.len() {
                return Ok(false);
            }
            for (left, right) in left.items.iter().zip(&right.items) {
                if !equal(left, right, meter)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Value::Dict(left), Value::Dict(right)) => {
            meter.steps(1)?;
            if left.entries().len() != right.entries().len() {
                return Ok(false);
            }
            for (key, value) in left.entries() {
                meter.steps(right.look_up_steps(key))?;
                match right.get(key) {
                    Some(other) if equal(value, other, meter)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        (left, right) => {
            meter.steps(1)?;
            Ok(left == right)
        }
    }
}

/// Python's order; an error between what has none.
pub(crate) fn order(left: &Value, right: &Value, meter: &mut Meter) -> Result<Option<Ordering>> {
    match (left, right) {
        (Value::Str(left), Value::Str(right)) => {
            meter.scan(left.as_str().len().min(right.as_str().len()))?;
            Ok(Some(left.as_str().cmp(right.as_str())))
        }
        (Value::Seq(left), Value::Seq(right)) if left.kind == right.kind => {
            for (left, right) in left.items.iter().zip(&right.items) {
                if !equal(left, right, meter)? {
                    return order(left, right, meter);
                }
            }
            Ok(Some(left.items.len().cmp(&right.items.len())))
        }
        _ => match (left.number(), right.number()) {
            (Some(Number::Int(left)), Some(Number::Int(right))) => Ok(Some(left.cmp(&right))),
            (Some(left), Some(right)) => Ok(left.float().partial_cmp(&right.float())),
            _ if left.is_undefined() => Err(missing(left)),
            _ if right.is_undefined() => Err(missing(right)),
            _ => Err(Error::operation(format!("no order between {} and {}", left.type_name(), right.type_name()))),
        },
    }
}

/// `left comparison right`, for what `in` need not iterate over.
pub(crate) fn compare(comparison: Comparison, left: &Value, right: &Value, meter: &mut Meter) -> Result<bool> {
    meter.steps(1)?;
    let ordered = |meter: &mut Meter, wanted: fn(Ordering) -> bool| Ok(order(left, right, meter)?.is_some_and(wanted));
    match comparison {
        Comparison::Eq => equal(left, right, meter),
        Comparison::Ne => Ok(!equal(left, right, meter)?),
        Comparison::Lt => ordered(meter, Ordering::is_lt),
        Comparison::Le => ordered(meter, Ordering::is_le),
        Comparison::Gt => ordered(meter, Ordering::is_gt),
        Comparison::Ge => ordered(meter, Ordering::is_ge),
        Comparison::In => contains(right, left, meter),
        Comparison::NotIn => Ok(!contains(right, left, meter)?),
    }
}

/// `item in container`.
pub(crate) fn contains(container: &Value, item: &Value, meter: &mut Meter) -> Result<bool> {
    match container {
        Value::Undefined(Missing::Unsafe(..)) => Err(missing(container)),
        Value::Undefined(_) => Ok(false),
        Value::Str(text) => match item {
            Value::Str(part) => {
                meter.scan(text.as_str().len())?;
                Ok(text.as_str().contains(part.as_str()))
            }
            Value::Undefined(_) => Err(missing(item)),
            other => Err(Error::operation(format!("'in <string>' requires a string, not {}", other.type_name()))),
        },
        Value::Seq(seq) => {
            for element in &seq.items {
                if equal(element, item, meter)? {
                    return Ok(true);
                }
            }
            Ok(false)
        }
        Value::Dict(dict) => {
            check_key(item)?;
            meter.steps(dict.look_up_steps(item))?;
            Ok(dict.get(item).is_some())
        }
        other => Err(Error::operation(format!("a value of type {} is not iterable", other.type_name()))),
    }
}

/// Refuses what cannot be a key of a dictionary.
pub(crate) fn check_key(key: &Value) -> Result<()> {
    match key {
        Value::Seq(_) | Value::Dict(_) | Value::Object(_) => {
            Err(Error::operation(format!("a value of type {} cannot be a key", key.type_name())))
        }
        _ => Ok(()),
    }
}
