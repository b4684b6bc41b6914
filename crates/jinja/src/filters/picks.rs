//! Filters that apply something to every element: `map`, `select`, `reject` and those by an attribute. Invariant: their
//! result is a generator, as in Jinja: it is always true, has no length, and gives its elements once.

use crate::calls::Args;
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::show;
use crate::value::Value;

/// Attributes of attributes: `function.name`, numbers are indices.
pub(super) struct Path {
    parts: Vec<Value>,
    pub(super) default: Option<Value>,
}

/// The path that an argument `attribute` means; of none, the element itself.
pub(super) fn path(attribute: Option<&Value>) -> Result<Path> {
    let parts = match attribute {
        None | Some(Value::None) => Vec::new(),
        Some(Value::Int(index)) => vec![Value::Int(*index)],
        Some(Value::Str(text)) => {
            let part = |part: &str| match part.parse::<u64>() {
                Ok(index) => Value::Int(i128::from(index)),
                Err(_) => Value::from(part),
            };
            text.as_str().split('.').map(part).collect()
        }
        Some(other) => return Err(Error::operation(format!("an attribute is a text, not {}", other.type_name()))),
    };
    Ok(Path { parts, default: None })
}

impl Path {
    pub(super) fn of(&self, interp: &mut Interp<'_>, item: &Value) -> Result<Value> {
        let mut value = item.clone();
        for part in &self.parts {
            interp.meter.steps(1)?;
            value = interp.item(&value, part)?;
            if let (Value::Undefined(_), Some(default)) = (&value, &self.default) {
                value = default.clone();
            }
        }
        Ok(value)
    }
}

/// `attr(name)`: an attribute, never a key.
pub(super) fn attr(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    let [name] = args.bind("attr", ["name"])?;
    let name = show::text(&name.unwrap_or(Value::UNDEFINED), &mut interp.meter)?;
    match &value {
        Value::Dict(_) if !crate::methods::has(&value, name.as_str()) => Ok(Value::UNDEFINED),
        value => interp.attribute(value, name.text()),
    }
}

/// `map('filter', arguments…)` or `map(attribute='name', default=…)`.
pub(super) fn map(interp: &mut Interp<'_>, value: Value, mut args: Args) -> Result<Value> {
    let items = interp.iterate(&value)?;
    interp.meter.list(items.len())?;
    let mut mapped = Vec::with_capacity(items.len());
    if args.positional.is_empty() {
        let [attribute, default] = args.bind("map", ["attribute", "default"])?;
        if attribute.is_none() {
            return Err(Error::operation("map requires a filter argument"));
        }
        let mut path = path(attribute.as_ref())?;
        path.default = default;
        for item in items.iter() {
            mapped.push(path.of(interp, item)?);
        }
        return interp.generator(mapped);
    }
    let name = args.positional.remove(0);
    let filter =
        name.as_str().and_then(super::named).ok_or_else(|| Error::operation("map: there is no such filter"))?;
    for item in items.iter() {
        let args = copy(interp, &args)?;
        mapped.push(interp.deeper(|interp| filter(interp, item.clone(), args))?);
    }
    interp.generator(mapped)
}

fn copy(interp: &mut Interp<'_>, args: &Args) -> Result<Args> {
    interp.meter.steps(1 + args.positional.len() + args.named.len())?;
    Ok(Args { positional: args.positional.clone(), named: args.named.clone() })
}

fn pick(interp: &mut Interp<'_>, value: &Value, mut args: Args, by_attribute: bool, wanted: bool) -> Result<Value> {
    let path = match by_attribute {
        false => path(None)?,
        true if args.positional.is_empty() => return Err(Error::operation("Missing parameter for attribute name")),
        true => path(Some(&args.positional.remove(0)))?,
    };
    let test = match args.positional.is_empty() {
        true => None,
        false => {
            let name = args.positional.remove(0);
            let test = name.as_str().and_then(crate::checks::named);
            Some(test.ok_or_else(|| Error::operation("select: there is no such test"))?)
        }
    };
    let items = interp.iterate(value)?;
    let mut kept = Vec::new();
    for item in items.iter() {
        interp.meter.steps(1)?;
        let of = path.of(interp, item)?;
        let holds = match test {
            Some(test) => {
                let args = copy(interp, &args)?;
                test(interp, &of, args)?
            }
            None => interp.truth(&of)?,
        };
        if holds == wanted {
            interp.meter.list(1)?;
            kept.push(item.clone());
        }
    }
    interp.generator(kept)
}

pub(super) fn select(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    pick(interp, &value, args, false, true)
}

pub(super) fn reject(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    pick(interp, &value, args, false, false)
}

pub(super) fn selectattr(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    pick(interp, &value, args, true, true)
}

pub(super) fn rejectattr(interp: &mut Interp<'_>, value: Value, args: Args) -> Result<Value> {
    pick(interp, &value, args, true, false)
}
