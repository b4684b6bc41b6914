//! Operators on values, as Python has them: arithmetic, comparisons, membership, indices and slices. Invariant: whatever
//! depends on the size of an operand is paid for first.

use crate::ast::{Binary, Comparison};
use crate::error::{Error, Result};
use crate::meter::Meter;
use crate::show::{self, missing};
use crate::value::{Missing, Number, SeqKind, Str, TextBuilder, Value};
use std::cmp::Ordering;

/// `left op right`.
pub(crate) fn binary(op: Binary, left: &Value, right: &Value, meter: &mut Meter) -> Result<Value> {
    match (op, left, right) {
        (_, Value::Undefined(_), _) => return Err(missing(left)),
        (Binary::Mod, Value::Str(format), arguments) => return crate::format::percent(format, arguments, meter),
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
            if let Some(Number::Int(times)) = Number::of(times) {
                return repeat(repeated, times, meter);
            }
        }
        _ => {}
    }
    match (Number::of(left), Number::of(right)) {
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
    match Number::of(value) {
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
        _ => match (Number::of(left), Number::of(right)) {
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

/// `value[index]`; undefined where Python's Jinja finds nothing.
pub(crate) fn item(value: &Value, index: &Value, meter: &mut Meter) -> Result<Option<Value>> {
    let place = |length: usize| match Number::of(index) {
        Some(Number::Int(at)) => {
            let at = if at < 0 { at + length as i128 } else { at };
            usize::try_from(at).ok().filter(|&at| at < length)
        }
        _ => None,
    };
    Ok(match value {
        Value::Undefined(_) => return Err(missing(value)),
        Value::Dict(dict) => {
            meter.steps(dict.look_up_steps(index))?;
            if check_key(index).is_err() { None } else { dict.get(index).cloned() }
        }
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Group | SeqKind::Range) => {
            place(seq.items.len()).map(|at| seq.items[at].clone())
        }
        Value::Str(text) => {
            meter.scan(text.as_str().len())?;
            place(text.as_str().chars().count()).map(|at| {
                let (start, c) = text.as_str().char_indices().nth(at).expect("within the text");
                Value::Str(text.part(start, start + c.len_utf8()))
            })
        }
        _ => None,
    })
}

/// `value[start:stop:step]`.
pub(crate) fn slice(value: &Value, bounds: [Option<i128>; 3], meter: &mut Meter) -> Result<Value> {
    let [start, stop, step] = bounds;
    let step = step.unwrap_or(1);
    if step == 0 {
        return Err(Error::operation("slice step cannot be zero"));
    }
    match value {
        Value::Undefined(_) => Err(missing(value)),
        Value::Seq(seq) if matches!(seq.kind, SeqKind::List | SeqKind::Tuple | SeqKind::Group | SeqKind::Range) => {
            let places = places(seq.items.len(), start, stop, step);
            meter.list(places.len())?;
            Value::seq(seq.kind, places.map(|at| seq.items[at].clone()).collect())
        }
        Value::Str(text) => {
            let all = text.as_str();
            meter.text(all.len())?;
            let count = all.chars().count();
            let places = places(count, start, stop, step);
            if step == 1 {
                let at = |place: usize| all.char_indices().nth(place).map_or(all.len(), |(at, _)| at);
                let (start, end) = (places.first, places.first + places.len());
                return Ok(Value::Str(text.part(at(start), at(end).max(at(start)))));
            }
            meter.list(count)?;
            let chars: Vec<char> = all.chars().collect();
            Ok(Value::Str(text.remade(places.map(|at| chars[at]).collect())))
        }
        other => Err(Error::operation(format!("a value of type {} cannot be sliced", other.type_name()))),
    }
}

/// Indices that a slice takes.
struct Places {
    first: usize,
    step: i128,
    left: usize,
}

impl Places {
    fn len(&self) -> usize {
        self.left
    }
}

impl Iterator for Places {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let at = self.first;
        self.first = (self.first as i128).saturating_add(self.step).max(0) as usize;
        Some(at)
    }
}

/// CPython's `PySlice_AdjustIndices`.
fn places(length: usize, start: Option<i128>, stop: Option<i128>, step: i128) -> Places {
    let length = length as i128;
    let step = step.clamp(-(1 << 64), 1 << 64);
    let (low, high) = if step > 0 { (0, length) } else { (-1, length - 1) };
    let within = |at: i128| (if at < 0 { at.saturating_add(length) } else { at }).clamp(low, high);
    let start = start.map_or(if step > 0 { low } else { high }, within);
    let stop = stop.map_or(if step > 0 { high } else { low }, within);
    let left = match step > 0 {
        true if start < stop => (stop - start - 1) / step + 1,
        false if stop < start => (start - stop - 1) / -step + 1,
        _ => 0,
    };
    Places { first: start.max(0) as usize, step, left: left as usize }
}
