//! Filters of lists. Invariant: an order is Python's, and equals keep theirs.

use super::paths::{Path, path};
use crate::args::{Args, count};
use crate::ast::Binary;
use crate::comparing::{check_key, equal, order};
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::methods;
use crate::ops;
use crate::show;
use crate::sorting::{Items, sorted};
use crate::value::{Dict, Object, SeqKind, Str, TextBuilder, Value};

fn flag(value: Option<Value>) -> bool {
    value.is_some_and(|value| value.is_true())
}

/// Elements each with what they are ordered or told apart by.
fn keyed(interp: &mut Interp<'_>, items: &Items, path: &Path, case_sensitive: bool) -> Result<Vec<Value>> {
    interp.meter.list(items.len().saturating_mul(4))?;
    let mut pairs = Vec::with_capacity(items.len());
    for item in items.iter() {
        let mut key = path.of(interp, item)?;
        if let (Value::Str(text), false) = (&key, case_sensitive) {
            interp.meter.text(text.as_str().len())?;
            key = Value::Str(text.remade(text.as_str().to_lowercase()));
        }
        pairs.push(Value::tuple(vec![key, item.clone()])?);
    }
    Ok(pairs)
}

fn part(pair: &Value, at: usize) -> &Value {
    &pair.items().expect("a pair")[at]
}

fn sorted_pairs(interp: &mut Interp<'_>, pairs: Vec<Value>, reverse: bool) -> Result<Vec<Value>> {
    sorted(pairs, &mut interp.meter, &mut |left, right, meter| {
        let (left, right) = (part(left, 0), part(right, 0));
        let found = order(left, right, meter)?;
        Ok(found.is_some_and(|found| if reverse { found.is_gt() } else { found.is_lt() }))
    })
}

fn values(pairs: Vec<Value>) -> Vec<Value> {
    pairs.iter().map(|pair| part(pair, 1).clone()).collect()
}

/// `sort(reverse=False, case_sensitive=False, attribute=None)`.
pub(super) fn sort(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [reverse, case, attribute] = args.bind("sort", ["reverse", "case_sensitive", "attribute"])?;
    let (reverse, case) = (flag(reverse), flag(case));
    let items = interp.iterate(&value)?;
    if attribute.as_ref().and_then(Value::as_str).is_some_and(|text| text.contains(',')) {
        return Err(Error::operation("sort by several attributes is not supported"));
    }
    let path = path(attribute.as_ref())?;
    let pairs = keyed(interp, &items, &path, case)?;
    let sorted = sorted_pairs(interp, pairs, reverse)?;
    Value::list(values(sorted))
}

/// `dictsort(case_sensitive=False, by='key', reverse=False)`.
pub(super) fn dictsort(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [case, by, reverse] = args.bind("dictsort", ["case_sensitive", "by", "reverse"])?;
    let by = match by.as_ref().and_then(Value::as_str).unwrap_or("key") {
        "key" => 0,
        "value" => 1,
        _ => return Err(Error::operation("You can only sort by either \"key\" or \"value\"")),
    };
    let dict = value.as_dict().ok_or_else(|| Error::operation("dictsort needs a dictionary"))?;
    let pairs = methods::pairs(dict, &mut interp.meter)?;
    let items = interp.iterate(&pairs)?;
    let path = path(Some(&Value::Int(by)))?;
    let pairs = keyed(interp, &items, &path, flag(case))?;
    let sorted = sorted_pairs(interp, pairs, flag(reverse))?;
    Value::list(values(sorted))
}

/// `unique(case_sensitive=False, attribute=None)`.
pub(super) fn unique(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [case, attribute] = args.bind("unique", ["case_sensitive", "attribute"])?;
    let items = interp.iterate(&value)?;
    let path = path(attribute.as_ref())?;
    let pairs = keyed(interp, &items, &path, flag(case))?;
    let mut seen = Dict::default();
    let mut kept = Vec::new();
    for pair in &pairs {
        let (key, item) = (part(pair, 0), part(pair, 1));
        check_key(key)?;
        interp.meter.steps(seen.look_up_steps(key))?;
        if seen.get(key).is_none() {
            interp.put(&mut seen, key.clone(), Value::None)?;
            kept.push(item.clone());
        }
    }
    interp.generator(kept)
}

/// `groupby(attribute, default=None, case_sensitive=False)`.
pub(super) fn groupby(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [attribute, default, case] = args.bind("groupby", ["attribute", "default", "case_sensitive"])?;
    let items = interp.iterate(&value)?;
    let mut path = path(attribute.as_ref())?;
    path.default = default;
    let pairs = keyed(interp, &items, &path, flag(case))?;
    let sorted = sorted_pairs(interp, pairs, false)?;
    let mut groups: Vec<Value> = Vec::new();
    let mut at = 0;
    while at < sorted.len() {
        let key = part(&sorted[at], 0);
        let mut end = at + 1;
        while end < sorted.len() && equal(key, part(&sorted[end], 0), &mut interp.meter)? {
            end += 1;
        }
        interp.meter.list(end - at + 3)?;
        // The group is named as its first element is, whatever its case.
        let name = path.of(interp, part(&sorted[at], 1))?;
        let group = Value::list(sorted[at..end].iter().map(|pair| part(pair, 1).clone()).collect())?;
        groups.push(Value::seq(SeqKind::Group, vec![name, group])?);
        at = end;
    }
    Value::list(groups)
}

fn extreme(interp: &mut Interp<'_>, value: &Value, args: Args, largest: bool) -> Result<Value> {
    let [case, attribute] = args.bind("min and max", ["case_sensitive", "attribute"])?;
    let items = interp.iterate(value)?;
    let path = path(attribute.as_ref())?;
    let pairs = keyed(interp, &items, &path, flag(case))?;
    let mut best: Option<&Value> = None;
    for pair in &pairs {
        let better = match best {
            None => true,
            Some(best) => {
                let found = order(part(pair, 0), part(best, 0), &mut interp.meter)?;
                found.is_some_and(|found| if largest { found.is_gt() } else { found.is_lt() })
            }
        };
        if better {
            best = Some(pair);
        }
    }
    Ok(best.map_or(Value::UNDEFINED, |pair| part(pair, 1).clone()))
}

pub(super) fn max(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    extreme(interp, &value, args, true)
}

pub(super) fn min(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    extreme(interp, &value, args, false)
}

/// `sum(attribute=None, start=0)`.
pub(super) fn sum(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [attribute, start] = args.bind("sum", ["attribute", "start"])?;
    let items = interp.iterate(&value)?;
    let path = path(attribute.as_ref())?;
    let mut sum = start.unwrap_or(Value::Int(0));
    if matches!(sum, Value::Str(_)) {
        return Err(Error::operation("sum() can't sum strings"));
    }
    for item in items.iter() {
        let item = path.of(interp, item)?;
        sum = ops::binary(Binary::Add, &sum, &item, &mut interp.meter)?;
    }
    Ok(sum)
}

/// `join(d='', attribute=None)`.
pub(super) fn join(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [joiner, attribute] = args.bind("join", ["d", "attribute"])?;
    let joiner = joiner.map_or_else(|| Ok(Str::new("", None)), |joiner| show::text(&joiner, &mut interp.meter))?;
    let items = interp.iterate(&value)?;
    let path = path(attribute.as_ref())?;
    let mut joined = TextBuilder::default();
    for (index, item) in items.iter().enumerate() {
        let item = path.of(interp, item)?;
        let item = show::text(&item, &mut interp.meter)?;
        interp.meter.text(item.as_str().len() + joiner.as_str().len())?;
        if index > 0 {
            joined.push(&joiner);
        }
        joined.push(&item);
    }
    Ok(Value::Str(joined.finish()))
}

pub(super) fn list(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("list")?;
    let items = interp.iterate(&value)?.into_vec(&mut interp.meter)?;
    Value::list(items)
}

pub(super) fn items(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("items")?;
    match &value {
        Value::Undefined(_) => interp.generator(Vec::new()),
        Value::Dict(dict) => {
            let pairs = methods::pairs(dict, &mut interp.meter)?;
            let pairs = interp.iterate(&pairs)?.into_vec(&mut interp.meter)?;
            interp.generator(pairs)
        }
        _ => Err(Error::operation("Can only get item pairs from a mapping.")),
    }
}

pub(super) fn first(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("first")?;
    if let Value::Object(Object::Generator(number)) = &value {
        return Ok(interp.generators[*number].pop_front().unwrap_or(Value::UNDEFINED));
    }
    let items = interp.iterate(&value)?;
    Ok(items.first().cloned().unwrap_or(Value::UNDEFINED))
}

pub(super) fn last(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("last")?;
    if matches!(value, Value::Object(_)) {
        return Err(Error::operation(format!("a value of type {} is not reversible", value.type_name())));
    }
    let items = interp.iterate(&value)?;
    Ok(items.last().cloned().unwrap_or(Value::UNDEFINED))
}

/// A text backwards; of anything else a generator.
pub(super) fn reverse(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    args.none("reverse")?;
    if let Value::Str(text) = &value {
        interp.meter.text(text.as_str().len())?;
        return Ok(Value::Str(text.remade(text.as_str().chars().rev().collect())));
    }
    let mut items = interp.iterate(&value)?.into_vec(&mut interp.meter)?;
    items.reverse();
    interp.generator(items)
}

/// `batch(linecount, fill_with=None)`: lists of so many elements.
pub(super) fn batch(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [size, fill] = args.bind("batch", ["linecount", "fill_with"])?;
    let size = count("batch", &size.unwrap_or(Value::UNDEFINED))?;
    let items = interp.iterate(&value)?;
    if size == 0 {
        return Err(Error::operation("batch needs a size of 1 at least"));
    }
    interp.meter.list(items.len().saturating_mul(2))?;
    let mut batches = Vec::new();
    for chunk in items.chunks(size) {
        let mut batch = chunk.to_vec();
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None)) {
            interp.meter.list(size - batch.len())?;
            batch.resize(size, fill.clone());
        }
        batches.push(Value::list(batch)?);
    }
    interp.generator(batches)
}

/// `slice(slices, fill_with=None)`: so many lists.
pub(super) fn slice(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [slices, fill] = args.bind("slice", ["slices", "fill_with"])?;
    let slices = count("slice", &slices.unwrap_or(Value::UNDEFINED))?;
    let items = interp.iterate(&value)?;
    if slices == 0 {
        return Err(Error::operation("integer division or modulo by zero"));
    }
    interp.meter.list(slices.saturating_mul(2).saturating_add(items.len()))?;
    let (each, more) = (items.len() / slices, items.len() % slices);
    let mut lists = Vec::new();
    let mut at = 0;
    for index in 0..slices {
        let end = at + each + usize::from(index < more);
        let mut list = items[at..end].to_vec();
        if let Some(fill) = fill.as_ref().filter(|fill| !matches!(fill, Value::None))
            && index >= more
        {
            list.push(fill.clone());
        }
        lists.push(Value::list(list)?);
        at = end;
    }
    interp.generator(lists)
}
