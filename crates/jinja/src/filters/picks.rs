//! Filters that choose elements: `select`, `reject` and those by an attribute. Invariant: their result is a generator, as in
//! Jinja: it is always true, has no length, and gives its elements once.

use super::paths::path;
use crate::args::Args;
use crate::builtins::Test;
use crate::checks::holds;
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::value::Value;

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
            let test = name.as_str().and_then(Test::named);
            Some(test.ok_or_else(|| Error::operation("select: there is no such test"))?)
        }
    };
    let items = interp.iterate(value)?;
    let mut kept = Vec::new();
    for item in items.iter() {
        interp.meter.steps(1)?;
        let of = path.of(interp, item)?;
        let chosen = match test {
            Some(test) => {
                let args = args.copy(&mut interp.meter)?;
                holds(test, interp, &of, args)?
            }
            None => interp.truth(&of)?,
        };
        if chosen == wanted {
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
