//! Expressions. Invariant: every node is paid for; each arm that needs room on the stack is a function of its own, so that
//! nesting costs little of it.

use crate::args::Args;
use crate::ast::{Arguments, Comparison, Expr, Name, Postfix, PostfixKind};
use crate::comparing::{compare, contains};
use crate::error::{Error, Result, excerpt};
use crate::indexing::slice;
use crate::interp::Interp;
use crate::number::Number;
use crate::show::missing;
use crate::value::{Dict, Value};
use crate::{checks, filters, ops};
use std::sync::Arc;

impl<'a> Interp<'a> {
    pub(crate) fn eval(&mut self, expr: &'a Expr) -> Result<Value> {
        self.meter.steps(1)?;
        match expr {
            Expr::Literal(value) => Ok(value.clone()),
            Expr::Name(name) => self.variable(name),
            Expr::Postfix(value, chain) => self.deeper(|interp| {
                let value = interp.eval(value)?;
                interp.postfixes(value, chain)
            }),
            other => self.deeper(|interp| interp.nested(other)),
        }
    }

    fn nested(&mut self, expr: &'a Expr) -> Result<Value> {
        match expr {
            Expr::List(items) => Value::list(self.values(items)?),
            Expr::Tuple(items) => Value::tuple(self.values(items)?),
            Expr::Dict(entries) => self.dict(entries),
            Expr::Chain(first, rest) => {
                let mut value = self.eval(first)?;
                for (op, right) in rest {
                    let right = self.eval(right)?;
                    value = ops::binary(*op, &value, &right, &mut self.meter)?;
                }
                Ok(value)
            }
            Expr::Concat(parts) => {
                let parts = self.values(parts)?;
                ops::concat(&parts, &mut self.meter)
            }
            Expr::Compare(first, rest) => self.comparisons(first, rest),
            Expr::And(operands) => self.first_where(operands, false),
            Expr::Or(operands) => self.first_where(operands, true),
            Expr::Not(value) => Ok(Value::Bool(!self.condition(value)?)),
            Expr::Negative(value) => ops::negative(&self.eval(value)?),
            Expr::Positive(value) => {
                let value = self.eval(value)?;
                match value.number() {
                    Some(Number::Int(number)) => Ok(Value::Int(number)),
                    Some(Number::Float(_)) => Ok(value),
                    None if value.is_undefined() => Err(missing(&value)),
                    None => Err(Error::operation(format!("no + of {}", value.type_name()))),
                }
            }
            Expr::If(parts) => {
                let (then, condition, otherwise) = &**parts;
                match (self.condition(condition)?, otherwise) {
                    (true, _) => self.eval(then),
                    (false, Some(otherwise)) => self.eval(otherwise),
                    (false, None) => Ok(Value::UNDEFINED),
                }
            }
            Expr::Literal(_) | Expr::Name(_) | Expr::Postfix(..) => unreachable!("eval() has these"),
        }
    }

    fn values(&mut self, items: &'a [Expr]) -> Result<Vec<Value>> {
        self.meter.list(items.len())?;
        items.iter().map(|item| self.eval(item)).collect()
    }

    fn dict(&mut self, entries: &'a [(Expr, Expr)]) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in entries {
            let (key, value) = (self.eval(key)?, self.eval(value)?);
            self.put(&mut dict, key, value)?;
        }
        Ok(Value::Dict(Arc::new(dict)))
    }

    /// Python's `and` and `or`: the first operand that decides, or the last.
    fn first_where(&mut self, operands: &'a [Expr], wanted: bool) -> Result<Value> {
        let mut value = Value::UNDEFINED;
        for operand in operands {
            value = self.eval(operand)?;
            if self.truth(&value)? == wanted {
                break;
            }
        }
        Ok(value)
    }

    fn comparisons(&mut self, first: &'a Expr, rest: &'a [(Comparison, Expr)]) -> Result<Value> {
        let mut left = self.eval(first)?;
        for (comparison, right) in rest {
            let right = self.eval(right)?;
            let holds = match (comparison, &right) {
                (Comparison::In | Comparison::NotIn, Value::Object(_)) => {
                    let items = self.iterate(&right)?.into_vec(&mut self.meter)?;
                    let within = contains(&Value::list(items)?, &left, &mut self.meter)?;
                    within == (*comparison == Comparison::In)
                }
                _ => compare(*comparison, &left, &right, &mut self.meter)?,
            };
            if !holds {
                return Ok(Value::Bool(false));
            }
            left = right;
        }
        Ok(Value::Bool(true))
    }

    pub(crate) fn postfix(&mut self, value: Value, postfix: &'a Postfix) -> Result<Value> {
        self.meter.steps(1)?;
        match &postfix.kind {
            PostfixKind::Attribute(name) => self.attribute(&value, name),
            PostfixKind::Item(index) => {
                let index = self.eval(index)?;
                self.item(&value, &index)
            }
            PostfixKind::Slice(bounds) => {
                let mut numbers = [None; 3];
                for (number, bound) in numbers.iter_mut().zip(bounds.iter()) {
                    let Some(bound) = bound else { continue };
                    let bound = self.eval(bound)?;
                    *number = match bound.number() {
                        Some(Number::Int(number)) => Some(number),
                        None if matches!(bound, Value::None) => None,
                        None if bound.is_undefined() => return Err(missing(&bound)),
                        _ => return Err(Error::operation("slice indices must be integers or None")),
                    };
                }
                slice(&value, numbers, &mut self.meter)
            }
            PostfixKind::Call(arguments) => {
                let args = self.arguments(arguments, None)?;
                self.call(&value, args)
            }
            PostfixKind::Method(name, arguments) => {
                let args = self.arguments(arguments, None)?;
                self.call_method(&value, name, args)
            }
            PostfixKind::Filter { filter, name, arguments } => {
                let filter =
                    filter.ok_or_else(|| Error::operation(format!("there is no filter '{}'", excerpt(name))))?;
                let args = self.arguments(arguments, None)?;
                self.deeper(|interp| filters::apply(filter, interp, value, args))
            }
            PostfixKind::Test { test, name, arguments, negated } => {
                let test = test.ok_or_else(|| Error::operation(format!("there is no test '{}'", excerpt(name))))?;
                let args = self.arguments(arguments, None)?;
                Ok(Value::Bool(checks::holds(test, self, &value, args)? != *negated))
            }
        }
    }

    #[inline(never)]
    pub(crate) fn arguments(&mut self, arguments: &'a Arguments, caller: Option<Value>) -> Result<Args> {
        let mut args = Args::default();
        for value in &arguments.positional {
            args.positional.push(self.eval(value)?);
        }
        if let Some(rest) = &arguments.rest {
            let rest = self.eval(rest)?;
            let rest = self.iterate(&rest)?;
            self.meter.list(rest.len())?;
            args.positional.extend(rest.iter().cloned());
        }
        for (name, value) in &arguments.named {
            args.named.push((name.clone(), self.eval(value)?));
        }
        if let Some(rest) = &arguments.named_rest {
            let rest = self.eval(rest)?;
            let rest = rest.as_dict().ok_or_else(|| Error::operation("argument after ** must be a mapping"))?;
            self.meter.list(2 * rest.entries().len())?;
            for (key, value) in rest.entries() {
                let Value::Str(key) = key else { return Err(Error::operation("keywords must be strings")) };
                args.named.push((key.text().clone(), value.clone()));
            }
        }
        args.named.extend(caller.map(|caller| (Name::from("caller"), caller)));
        Ok(args)
    }

    /// `{% call %}`: the call's last part gets the body as `caller`.
    pub(crate) fn call_with_caller(&mut self, call: &'a Expr, caller: Value) -> Result<Value> {
        let Expr::Postfix(value, chain) = call else { unreachable!("the parser wants a call") };
        let (last, before) = chain.split_last().expect("the parser wants a call");
        let value = self.eval(value)?;
        let value = self.postfixes(value, before)?;
        match &last.kind {
            PostfixKind::Call(arguments) => {
                let args = self.arguments(arguments, Some(caller))?;
                self.call(&value, args)
            }
            PostfixKind::Method(name, arguments) => {
                let args = self.arguments(arguments, Some(caller))?;
                self.call_method(&value, name, args)
            }
            _ => unreachable!("the parser wants a call"),
        }
    }

    pub(crate) fn postfixes(&mut self, mut value: Value, chain: &'a [Postfix]) -> Result<Value> {
        for postfix in chain {
            value = self.postfix(value, postfix).map_err(|error| error.at(postfix.line))?;
        }
        Ok(value)
    }
}
