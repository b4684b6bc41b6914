//! What can be called: functions, macros, methods. Invariant: an argument that nobody asks for is an error, as in Python.

use crate::args::{Args, int};
use crate::ast::{Macro, Name};
use crate::comparing::equal;
use crate::error::{Error, Result};
use crate::interp::Interp;
use crate::methods;
use crate::show::{self, missing};
use crate::value::{Dict, Missing, Object, SeqKind, Value};
use std::sync::Arc;

/// Longest `range`, as in Jinja's sandbox.
const MAX_RANGE: u128 = 100_000;

impl<'a> Interp<'a> {
    pub(crate) fn call(&mut self, value: &Value, args: Args) -> Result<Value> {
        self.meter.steps(1)?;
        match value {
            Value::Object(Object::Function(name)) => self.call_function(name, args),
            Value::Object(Object::Macro(number)) => self.call_macro(*number, args),
            Value::Object(Object::Loop(number)) => self.call_loop(*number, args),
            Value::Object(Object::Joiner(number)) => {
                args.none("joiner")?;
                let (separator, used) = &mut self.joiners[*number];
                let first = !std::mem::replace(used, true);
                Ok(if first { Value::text("") } else { separator.clone() })
            }
            Value::Object(Object::Method(method)) => {
                let (value, name) = &**method;
                self.call_method(value, name, args)
            }
            Value::Undefined(_) => Err(missing(value)),
            other => Err(Error::operation(format!("a value of type {} cannot be called", other.type_name()))),
        }
    }

    /// `value.name(…)`.
    pub(crate) fn call_method(&mut self, value: &Value, name: &Name, args: Args) -> Result<Value> {
        if methods::has(value, name) {
            return self.deeper(|interp| methods::call(interp, value, name, args));
        }
        if let Value::Object(object) = value {
            match (object, &**name) {
                (Object::Loop(number), "cycle") => {
                    let index = self.loops[*number].index;
                    return match args.positional.len() {
                        0 => Err(Error::operation("no items for cycling given")),
                        count => Ok(args.positional[index % count].clone()),
                    };
                }
                (Object::Loop(number), "changed") => {
                    let now = Value::tuple(args.positional)?;
                    let before = self.loops[*number].changed.replace(now.clone());
                    return Ok(Value::Bool(match before {
                        Some(before) => !equal(&before, &now, &mut self.meter)?,
                        None => true,
                    }));
                }
                (Object::Cycler(number), "next" | "reset") => {
                    let (items, at) = &mut self.cyclers[*number];
                    if **name == *"reset" {
                        *at = 0;
                        return Ok(Value::None);
                    }
                    let item = items[*at].clone();
                    *at = (*at + 1) % items.len();
                    return Ok(item);
                }
                _ => {}
            }
        }
        let callee = self.attribute(value, name)?;
        self.call(&callee, args)
    }

    fn call_function(&mut self, name: &str, args: Args) -> Result<Value> {
        match name {
            "range" => self.range(args),
            "raise_exception" => {
                let [message] = args.bind(name, ["message"])?;
                let message = show::text(&message.unwrap_or(Value::None), &mut self.meter)?;
                Err(Error::raised(message.as_str()))
            }
            "strftime_now" => {
                let [format] = args.bind(name, ["format"])?;
                let format = format.unwrap_or(Value::UNDEFINED);
                let format = format.as_str().ok_or_else(|| Error::operation("strftime_now needs a text"))?;
                self.meter.text(format.len().saturating_mul(20))?;
                (self.host.strftime_now)(format).map(Value::text).map_err(Error::operation)
            }
            "cycler" => {
                if args.positional.is_empty() {
                    return Err(Error::operation("at least one item has to be provided"));
                }
                self.meter.list(args.positional.len() + 1)?;
                self.cyclers.push((args.positional, 0));
                Ok(Value::Object(Object::Cycler(self.cyclers.len() - 1)))
            }
            "joiner" => {
                let [separator] = args.bind(name, ["sep"])?;
                self.meter.list(1)?;
                self.joiners.push((separator.unwrap_or_else(|| Value::text(", ")), false));
                Ok(Value::Object(Object::Joiner(self.joiners.len() - 1)))
            }
            _ => self.mapping(name, args),
        }
    }

    /// `dict(…)` and `namespace(…)`: of a mapping or of pairs, and of names.
    fn mapping(&mut self, name: &str, args: Args) -> Result<Value> {
        let mut dict = Dict::default();
        if args.positional.len() > 1 {
            return Err(Error::operation(format!("{name} takes one argument without a name at most")));
        }
        match args.positional.first() {
            None => {}
            Some(Value::Dict(of)) => {
                for (key, value) in of.entries() {
                    self.put(&mut dict, key.clone(), value.clone())?;
                }
            }
            Some(pairs) => {
                for pair in self.iterate(pairs)?.iter() {
                    let pair = self.iterate(pair)?;
                    let [key, value] = &*pair else {
                        return Err(Error::operation(format!("{name} needs pairs of a key and a value")));
                    };
                    self.put(&mut dict, key.clone(), value.clone())?;
                }
            }
        }
        for (key, value) in args.named {
            self.put(&mut dict, Value::text(key), value)?;
        }
        if name == "dict" {
            return Ok(Value::Dict(Arc::new(dict)));
        }
        self.meter.list(dict.entries().len() + 1)?;
        let attributes = dict.entries().iter().filter_map(|(key, value)| match key {
            Value::Str(key) => Some((key.text().clone(), value.clone())),
            _ => None,
        });
        let attributes = attributes.collect();
        self.namespaces.push(attributes);
        Ok(Value::Object(Object::Namespace(self.namespaces.len() - 1)))
    }

    fn range(&mut self, args: Args) -> Result<Value> {
        let what = "range";
        let [first, second, third] = args.bind(what, ["start", "stop", "step"])?;
        let first = first.ok_or_else(|| Error::operation("range expected at least 1 argument, got 0"))?;
        let (start, stop) = match &second {
            Some(stop) => (int(what, &first)?, int(what, stop)?),
            None => (0, int(what, &first)?),
        };
        let step = third.map_or(Ok(1), |step| int(what, &step))?;
        let count = match step {
            0 => return Err(Error::operation("range() arg 3 must not be zero")),
            1.. if start < stop => (stop.saturating_sub(start) - 1).unsigned_abs() / step.unsigned_abs() + 1,
            ..0 if stop < start => (start.saturating_sub(stop) - 1).unsigned_abs() / step.unsigned_abs() + 1,
            _ => 0,
        };
        if count > MAX_RANGE {
            return Err(Error::operation(format!("range too big, the sandbox blocks ranges larger than {MAX_RANGE}")));
        }
        self.meter.list(count as usize)?;
        Value::seq(SeqKind::Range, (0..count as i128).map(|at| Value::Int(start + at * step)).collect())
    }

    /// `loop(items)` in a recursive loop.
    fn call_loop(&mut self, number: usize, args: Args) -> Result<Value> {
        let [items] = args.bind("loop", ["iterable"])?;
        let state = &self.loops[number];
        let depth = state.depth + 1;
        let Some((of, frame)) = state.recursive.clone() else {
            return Err(Error::operation("The loop must have the 'recursive' marker to be called recursively"));
        };
        let items = items.unwrap_or(Value::UNDEFINED);
        let text = self.capture(|interp| interp.deeper(|interp| interp.run_loop(of, &items, frame, depth)))?;
        Ok(Value::Str(text))
    }

    fn call_macro(&mut self, number: usize, args: Args) -> Result<Value> {
        let state = self.macros[number].clone();
        let text = self.deeper(|interp| {
            interp.in_scope_of(state.frame, |interp| {
                interp.bind_macro(state.definition, args)?;
                interp.capture(|interp| interp.block(&state.definition.body))
            })
        })?;
        Ok(Value::Str(text))
    }

    fn bind_macro(&mut self, definition: &'a Macro, args: Args) -> Result<()> {
        let parameters = &definition.parameters;
        let mut named = args.named;
        let caller = named.iter().position(|(name, _)| **name == *"caller").map(|at| named.remove(at).1);
        let name = &definition.name;
        let mut positional = args.positional.into_iter();
        let mut given: Vec<Option<Value>> = Vec::with_capacity(parameters.len());
        for (parameter, _) in parameters {
            let by_name = named.iter().position(|(name, _)| name == parameter);
            given.push(match (positional.next(), by_name) {
                (Some(_), Some(_)) => {
                    return Err(Error::operation(format!("macro '{name}' got two values for '{parameter}'")));
                }
                (Some(value), None) => Some(value),
                (None, Some(at)) => Some(named.remove(at).1),
                (None, None) => None,
            });
        }
        for ((parameter, default), value) in parameters.iter().zip(given) {
            let value = match (value, default) {
                (Some(value), _) => value,
                (None, Some(default)) => self.eval(default)?,
                (None, None) => Value::Undefined(Missing::Variable(parameter.clone())),
            };
            self.set(parameter, value)?;
        }
        let rest: Vec<Value> = positional.collect();
        if !rest.is_empty() && !definition.varargs {
            return Err(Error::operation(format!("macro '{name}' takes not more than {} arguments", parameters.len())));
        }
        if definition.varargs {
            self.set(&"varargs".into(), Value::tuple(rest)?)?;
        }
        if definition.kwargs {
            let mut dict = Dict::default();
            for (name, value) in named {
                self.put(&mut dict, Value::text(name), value)?;
            }
            self.set(&"kwargs".into(), Value::Dict(Arc::new(dict)))?;
        } else if let Some((argument, _)) = named.first() {
            return Err(Error::operation(format!("macro '{name}' takes no keyword argument '{argument}'")));
        }
        match caller {
            Some(caller) => self.set(&"caller".into(), caller),
            None if definition.caller => self.set(&"caller".into(), Value::UNDEFINED),
            None => Ok(()),
        }
    }
}
