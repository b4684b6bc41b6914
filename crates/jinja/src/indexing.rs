//! Elements and parts of values by their places, as Python has them. Invariant: whatever depends on the size of an operand
//! is paid for first.

use crate::comparing::check_key;
use crate::error::{Error, Result};
use crate::meter::Meter;
use crate::number::Number;
use crate::show::missing;
use crate::value::{SeqKind, Value};

/// `value[index]`; undefined where Python's Jinja finds nothing.
pub(crate) fn item(value: &Value, index: &Value, meter: &mut Meter) -> Result<Option<Value>> {
    let place = |length: usize| match index.number() {
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
