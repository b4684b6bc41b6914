//! Operators that make a value, as Python has them: arithmetic, and texts and lists put together. Invariant: whatever depends
//! on the size of an operand is paid for first. Look next at `comparing` and `indexing` for those that look at values.

use crate::ast::Binary;
use crate::error::{Error, Result};
use crate::format;
use crate::meter::Meter;
use crate::number::Number;
use crate::show::{self, missing};
use crate::value::{SeqKind, Str, TextBuilder, Value};

/// `left op right`.
pub(crate) fn binary(op: Binary, left: &Value, right: &Value, meter: &mut Meter) -> Result<Value> {
    match (op, left, right) {
        (_, Value::Undefined(_), _) => return Err(missing(left)),
        (Binary::Mod, Value::Str(format), arguments) => return format::percent(format, arguments, meter),
        (_, _, Value::Undefined(_)) => return Err(missing(right)),
        (Binary::Add, Value::Str(left), Value::Str(right)) => return join_two(left, right, meter).map(Value::Str),
        (Binary::Add, Value::Seq(left), Value::Seq(right)) if left.kind == right.kind => {
            if matches!(left.kind, SeqKind::List | SeqKind::Tuple) {
                meter.list(left.items.len() + right.items.len())?;
                return Value::seq(left.kind, [&left.items[..], &right.items[..]].concat());
            }
        }
        (Binary::Mul, repeated @ (Value::Str(_) | Value::Seq(_)), times)
        | (Binary::Mul, times, repeated @ (Value::Str(_) | Value::Seq(_))) => {
            if let Some(Number::Int(times)) = times.number() {
                return repeat(repeated, times, meter);
            }
        }
        _ => {}
    }
    match (left.number(), right.number()) {
        (Some(left), Some(right)) => arithmetic(op, left, right),
        _ => Err(unsupported(op, left, right)),
    }
}

fn unsupported(op: Binary, left: &Value, right: &Value) -> Error {
    let sign = match op {
        Binary::Add => "+",
        Binary::Sub => "-",
        Binary::Mul => "*",
        Binary::Div => "/",
        Binary::FloorDiv => "//",
        Binary::Mod => "%",
        Binary::Pow => "**",
    };
    Error::operation(format!("no {sign} of {} and {}", left.type_name(), right.type_name()))
}

fn arithmetic(op: Binary, left: Number, right: Number) -> Result<Value> {
    let too_large = || Error::operation("a number is too large");
    let by_zero = || Error::operation("division by zero");
    if let (Number::Int(left), Number::Int(right)) = (left, right) {
        let result = match op {
            Binary::Add => left.checked_add(right),
            Binary::Sub => left.checked_sub(right),
            Binary::Mul => left.checked_mul(right),
            Binary::Div if right == 0 => return Err(by_zero()),
            Binary::Div => return Ok(Value::Float(left as f64 / right as f64)),
            Binary::FloorDiv | Binary::Mod if right == 0 => return Err(by_zero()),
            Binary::FloorDiv => left.checked_div_euclid(right).map(|quotient| {
                // Euclid's quotient leaves a remainder of no sign; Python's has the divisor's.
                if right < 0 && left.rem_euclid(right) != 0 { quotient - 1 } else { quotient }
            }),
            Binary::Mod => {
                left.checked_rem_euclid(right).map(|rest| if right < 0 && rest != 0 { rest + right } else { rest })
            }
            Binary::Pow if right < 0 && left == 0 => return Err(by_zero()),
            Binary::Pow if right < 0 => return Ok(Value::Float((left as f64).powf(right as f64))),
            Binary::Pow => match left {
                0 | 1 => Some(if right == 0 { 1 } else { left }),
                -1 => Some(if right % 2 == 0 { 1 } else { -1 }),
                _ => u32::try_from(right).ok().and_then(|right| left.checked_pow(right)),
            },
        };
        return result.map(Value::Int).ok_or_else(too_large);
    }
    let (left, right) = (left.float(), right.float());
    Ok(Value::Float(match op {
        Binary::Add => left + right,
        Binary::Sub => left - right,
        Binary::Mul => left * right,
        Binary::Div | Binary::FloorDiv | Binary::Mod if right == 0.0 => return Err(by_zero()),
        Binary::Div => left / right,
        Binary::FloorDiv => (left / right).floor(),
        Binary::Mod => {
            let rest = left % right;
            if rest != 0.0 && (rest < 0.0) != (right < 0.0) { rest + right } else { rest }
        }
        Binary::Pow => left.powf(right),
    }))
}

/// `-value`.
pub(crate) fn negative(value: &Value) -> Result<Value> {
    match value.number() {
        Some(Number::Int(value)) => {
            value.checked_neg().map(Value::Int).ok_or_else(|| Error::operation("a number is too large"))
        }
        Some(Number::Float(value)) => Ok(Value::Float(-value)),
        None if value.is_undefined() => Err(missing(value)),
        None => Err(Error::operation(format!("no - of {}", value.type_name()))),
    }
}

fn join_two(left: &Str, right: &Str, meter: &mut Meter) -> Result<Str> {
    meter.text(left.as_str().len() + right.as_str().len())?;
    let mut joined = TextBuilder::default();
    joined.text.reserve_exact(left.as_str().len() + right.as_str().len());
    joined.push(left);
    joined.push(right);
    Ok(joined.finish())
}

/// `left ~ right ~ …`.
pub(crate) fn concat(parts: &[Value], meter: &mut Meter) -> Result<Value> {
    let mut joined = TextBuilder::default();
    for part in parts {
        let part = show::text(part, meter)?;
        meter.text(part.as_str().len())?;
        joined.push(&part);
    }
    Ok(Value::Str(joined.finish()))
}

fn repeat(value: &Value, times: i128, meter: &mut Meter) -> Result<Value> {
    let times = usize::try_from(times.max(0)).unwrap_or(usize::MAX);
    match value {
        Value::Str(text) => {
            meter.text(text.as_str().len().saturating_mul(times))?;
            Ok(Value::Str(text.remade(text.as_str().repeat(if text.as_str().is_empty() { 0 } else { times }))))
        }
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple) => {
            meter.list(seq.items.len().saturating_mul(times))?;
            let times = if seq.items.is_empty() { 0 } else { times };
            Value::seq(seq.kind, (0..times).flat_map(|_| seq.items.iter().cloned()).collect())
        }
        other => Err(Error::operation(format!("no * of {} and int", other.type_name()))),
    }
}
