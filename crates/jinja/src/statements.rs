//! Walks over a template's statements and writes. `eval` has the expressions, `loops` the loops. Invariant: every statement
//! is paid for, and knows its line when it fails.

use crate::ast::{Expr, Macro, Statement, StatementKind, Target};
use crate::error::{Error, Result};
use crate::interp::{Flow, Host, Interp, MacroState, Rendering};
use crate::value::{Object, Str, Value};

/// Renders a template's statements.
pub(crate) fn render<'a>(
    statements: &'a [Statement],
    context: &'a [(&'a str, Value)],
    host: &'a Host<'a>,
) -> Result<Rendering> {
    let mut interp = Interp::new(context, host);
    interp.block(statements)?;
    Ok(interp.into_rendering())
}

impl<'a> Interp<'a> {
    pub(crate) fn block(&mut self, statements: &'a [Statement]) -> Result<Flow> {
        self.deeper(|interp| {
            for statement in statements {
                let flow = interp.statement(statement).map_err(|error| error.at(statement.line))?;
                if flow != Flow::Normal {
                    return Ok(flow);
                }
            }
            Ok(Flow::Normal)
        })
    }

    fn statement(&mut self, statement: &'a Statement) -> Result<Flow> {
        self.meter.steps(1)?;
        match &statement.kind {
            StatementKind::Data(text) => self.write(text)?,
            StatementKind::Output(value) => {
                let value = self.eval(value)?;
                self.write(&value)?;
            }
            StatementKind::If { branches, otherwise } => {
                for (condition, body) in branches {
                    if self.condition(condition)? {
                        return self.block(body);
                    }
                }
                return self.block(otherwise);
            }
            StatementKind::For(of) => return self.for_loop(of),
            StatementKind::Set { target, value } => {
                let value = self.eval(value)?;
                self.assign(target, value)?;
            }
            StatementKind::Macro(name, definition) => {
                let value = self.new_macro(definition)?;
                self.set(name, value)?;
            }
            StatementKind::Break => return Ok(Flow::Break),
            StatementKind::Continue => return Ok(Flow::Continue),
            other => return self.scoped(other),
        }
        Ok(Flow::Normal)
    }

    /// Statements that open a scope.
    #[inline(never)]
    fn scoped(&mut self, kind: &'a StatementKind) -> Result<Flow> {
        match kind {
            StatementKind::SetBlock { target, filters, body } => {
                let text = self.captured(body)?;
                let value = self.postfixes(Value::Str(text), filters)?;
                self.assign(target, value)?;
            }
            StatementKind::FilterBlock { filters, body } => {
                let text = self.captured(body)?;
                let value = self.postfixes(Value::Str(text), filters)?;
                self.write(&value)?;
            }
            StatementKind::With { targets, body } => {
                // Values are those of the scope around.
                let mut values = Vec::new();
                for (_, value) in targets {
                    values.push(self.eval(value)?);
                }
                return self.in_scope(|interp| {
                    for ((target, _), value) in targets.iter().zip(values) {
                        interp.assign(target, value)?;
                    }
                    interp.block(body)
                });
            }
            StatementKind::Call { body, call } => {
                let caller = self.new_macro(body)?;
                let value = self.call_with_caller(call, caller)?;
                self.write(&value)?;
            }
            StatementKind::Generation(body) => return self.generation(body),
            _ => unreachable!("statement() has the others"),
        }
        Ok(Flow::Normal)
    }

    /// transformers' extension: a call block, so a scope of its own, whose place is noted.
    fn generation(&mut self, body: &'a [Statement]) -> Result<Flow> {
        let start = self.written_bytes();
        let flow = self.in_scope(|interp| interp.block(body))?;
        self.note_generation(start);
        Ok(flow)
    }

    /// What a block writes, as a text.
    fn captured(&mut self, body: &'a [Statement]) -> Result<Str> {
        self.capture(|interp| interp.in_scope(|interp| interp.block(body)))
    }

    pub(crate) fn assign(&mut self, target: &'a Target, value: Value) -> Result<()> {
        match target {
            Target::Name(name) => {
                // `{% set message = messages[i] %}` in a loop over numbers.
                // The innermost loop counts, and in it the first message.
                if self.in_loops > self.message_depth {
                    self.notice(&value);
                }
                self.set(name, value)
            }
            Target::Attribute(name, attribute) => {
                let Value::Object(Object::Namespace(number)) = self.variable(name)? else {
                    return Err(Error::operation("cannot assign attribute on non-namespace object"));
                };
                let attributes = &mut self.namespaces[number];
                self.meter.steps(1 + attributes.len() / 8)?;
                match attributes.iter_mut().find(|(other, _)| other == attribute) {
                    Some((_, old)) => *old = value,
                    None => {
                        self.meter.list(1)?;
                        attributes.push((attribute.clone(), value));
                    }
                }
                Ok(())
            }
            Target::Tuple(targets) => {
                let items = self.iterate(&value)?;
                if items.len() != targets.len() {
                    let (got, wanted) = (items.len(), targets.len());
                    return Err(Error::operation(format!("{got} values to unpack into {wanted}")));
                }
                for (target, item) in targets.iter().zip(items.iter()) {
                    self.assign(target, item.clone())?;
                }
                Ok(())
            }
        }
    }

    fn new_macro(&mut self, definition: &'a Macro) -> Result<Value> {
        self.meter.list(1)?;
        self.macros.push(MacroState { definition, frame: self.frame.clone() });
        Ok(Value::Object(Object::Macro(self.macros.len() - 1)))
    }

    /// `bool()` of an expression.
    pub(crate) fn condition(&mut self, condition: &'a Expr) -> Result<bool> {
        let value = self.eval(condition)?;
        self.truth(&value)
    }
}
