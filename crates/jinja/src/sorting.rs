//! Lists in order, and lists without a copy. Invariant: what has no order in Python has none here.

use crate::error::Result;
use crate::meter::Meter;
use crate::value::{Seq, Value};
use std::sync::Arc;

/// A stable sort that stops at the first pair without an order. An own one: the library's may panic where an order is not
/// total, and Python's is not (NaN).
pub(crate) fn sorted(
    items: Vec<Value>,
    meter: &mut Meter,
    less: &mut dyn FnMut(&Value, &Value, &mut Meter) -> Result<bool>,
) -> Result<Vec<Value>> {
    let mut sorted = items;
    let mut width = 1;
    meter.list(sorted.len())?;
    while width < sorted.len() {
        meter.steps(sorted.len())?;
        let mut merged = Vec::with_capacity(sorted.len());
        for run in sorted.chunks(2 * width) {
            let (left, right) = run.split_at(width.min(run.len()));
            let (mut l, mut r) = (0, 0);
            while l < left.len() && r < right.len() {
                // Only what is less goes before: equals keep their order.
                match less(&right[r], &left[l], meter)? {
                    true => {
                        merged.push(right[r].clone());
                        r += 1;
                    }
                    false => {
                        merged.push(left[l].clone());
                        l += 1;
                    }
                }
            }
            merged.extend_from_slice(&left[l..]);
            merged.extend_from_slice(&right[r..]);
        }
        sorted = merged;
        width *= 2;
    }
    Ok(sorted)
}

/// A list's elements without copying them, where it is one.
pub(crate) enum Items {
    Shared(Arc<Seq>),
    Owned(Vec<Value>),
}

impl std::ops::Deref for Items {
    type Target = [Value];

    fn deref(&self) -> &[Value] {
        match self {
            Items::Shared(seq) => &seq.items,
            Items::Owned(items) => items,
        }
    }
}

impl Items {
    pub(crate) fn into_vec(self, meter: &mut Meter) -> Result<Vec<Value>> {
        match self {
            Items::Owned(items) => Ok(items),
            Items::Shared(seq) => {
                meter.list(seq.items.len())?;
                Ok(seq.items.clone())
            }
        }
    }
}
