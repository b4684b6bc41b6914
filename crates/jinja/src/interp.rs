//! Walks over a template's tree and writes. `eval` has the expressions, `calls` what is called.
//!
//! Invariants: every statement, loop step and call is paid for, and calls nest only so deep; what a template sees is what
//! it was given and what it made. Scopes are Jinja's: a loop's step, a macro, a block that is captured and `with` have one
//! each, an `if` has none; reading looks through the scopes around, writing stays in the innermost.

use crate::ast::{For, Macro, Name, Postfix, Statement, StatementKind, Target};
use crate::error::{Error, Result};
use crate::meter::{Budget, Meter};
use crate::show::{self, missing};
use crate::sorting::Items;
use crate::value::{Missing, Object, Said, Str, TextBuilder, Value};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::ops::Range;
use std::rc::Rc;

/// Deepest nesting of evaluations within each other: blocks, brackets, and macros that call macros.
const MAX_DEPTH: usize = 400;

/// What a template is given besides its variables.
pub struct Host<'a> {
    /// `strftime_now`.
    pub strftime_now: &'a dyn Fn(&str) -> std::result::Result<String, String>,
    /// What the rendering may use up.
    pub budget: Budget,
}

/// A rendered text and what is known of its parts. Ranges are of bytes.
#[derive(Debug, Default)]
pub struct Rendering {
    /// The text.
    pub text: String,
    /// What was written while a loop was at a message, in order.
    pub written_for: Vec<Said>,
    /// What comes from the words of a message, in order.
    pub said: Vec<Said>,
    /// What `{% generation %}` blocks wrote.
    pub generations: Vec<Range<usize>>,
    /// Whether a `{% generation %}` block wrote into a captured text, whose place in the whole is not known.
    pub generation_captured: bool,
    /// Where the pieces begin that were written one by one.
    pub pieces: Vec<usize>,
}

pub(crate) struct Frame {
    variables: RefCell<Vec<(Name, Value)>>,
    parent: Option<Rc<Frame>>,
}

/// Whether a block ran to its end.
#[derive(PartialEq, Eq)]
pub(crate) enum Flow {
    Normal,
    Break,
    Continue,
}

pub(crate) struct LoopState<'a> {
    pub(crate) items: Items,
    pub(crate) index: usize,
    pub(crate) depth: usize,
    pub(crate) changed: Option<Value>,
    pub(crate) recursive: Option<(&'a For, Rc<Frame>)>,
}

#[derive(Clone)]
pub(crate) struct MacroState<'a> {
    pub(crate) definition: &'a Macro,
    pub(crate) frame: Rc<Frame>,
}

pub(crate) struct Interp<'a> {
    pub(crate) meter: Meter,
    pub(crate) host: &'a Host<'a>,
    context: &'a [(&'a str, Value)],
    pub(crate) frame: Rc<Frame>,
    root: Rendering,
    captures: Vec<TextBuilder>,
    pub(crate) namespaces: Vec<Vec<(Name, Value)>>,
    pub(crate) macros: Vec<MacroState<'a>>,
    pub(crate) loops: Vec<LoopState<'a>>,
    pub(crate) generators: Vec<VecDeque<Value>>,
    pub(crate) cyclers: Vec<(Vec<Value>, usize)>,
    pub(crate) joiners: Vec<(Value, bool)>,
    /// The message that a loop around is at.
    pub(crate) message: Option<u32>,
    /// How many loops were around when it was noticed.
    pub(crate) message_depth: usize,
    pub(crate) in_loops: usize,
    depth: usize,
}

/// Renders a template's statements.
pub(crate) fn render<'a>(
    statements: &'a [Statement],
    context: &'a [(&'a str, Value)],
    host: &'a Host<'a>,
) -> Result<Rendering> {
    let mut interp = Interp {
        meter: Meter::new(host.budget),
        host,
        context,
        frame: Rc::new(Frame { variables: RefCell::default(), parent: None }),
        root: Rendering::default(),
        captures: Vec::new(),
        namespaces: Vec::new(),
        macros: Vec::new(),
        loops: Vec::new(),
        generators: Vec::new(),
        cyclers: Vec::new(),
        joiners: Vec::new(),
        message: None,
        message_depth: 0,
        in_loops: 0,
        depth: 0,
    };
    interp.block(statements)?;
    Ok(std::mem::take(&mut interp.root))
}

impl<'a> Interp<'a> {
    /// Runs a part one level deeper.
    pub(crate) fn deeper<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth == MAX_DEPTH {
            return Err(Error::budget(format!("it nests calls and blocks more than {MAX_DEPTH} deep")));
        }
        self.depth += 1;
        let result = part(self);
        self.depth -= 1;
        result
    }

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
        let start = self.root.text.len();
        let captured = !self.captures.is_empty();
        let flow = self.in_scope(|interp| interp.block(body))?;
        match captured {
            true => self.root.generation_captured = true,
            false => self.root.generations.push(start..self.root.text.len()),
        }
        Ok(flow)
    }

    pub(crate) fn in_scope<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let parent = self.frame.clone();
        self.in_scope_of(parent, part)
    }

    /// Runs a part in a new scope within another one than the present.
    pub(crate) fn in_scope_of<T>(&mut self, parent: Rc<Frame>, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        let inner = Rc::new(Frame { variables: RefCell::default(), parent: Some(parent) });
        let outer = std::mem::replace(&mut self.frame, inner);
        let result = part(self);
        self.frame = outer;
        result
    }

    /// What a block writes, as a text.
    fn captured(&mut self, body: &'a [Statement]) -> Result<Str> {
        self.capture(|interp| interp.in_scope(|interp| interp.block(body)))
    }

    pub(crate) fn capture<T>(&mut self, part: impl FnOnce(&mut Self) -> Result<T>) -> Result<Str> {
        self.captures.push(TextBuilder::default());
        let result = part(self);
        let text = self.captures.pop().expect("pushed above").finish();
        result.map(|_| text)
    }

    /// Writes a value's text.
    pub(crate) fn write(&mut self, value: &Value) -> Result<()> {
        let text = show::text(value, &mut self.meter)?;
        self.meter.text(text.as_str().len())?;
        if let Some(capture) = self.captures.last_mut() {
            capture.push(&text);
            return Ok(());
        }
        if text.as_str().is_empty() {
            return Ok(());
        }
        let start = self.root.text.len();
        self.root.text.push_str(text.as_str());
        let end = self.root.text.len();
        self.root.pieces.push(start);
        if let Some(said) = text.said() {
            self.root.said.push(Said { start: start + said.start, end: start + said.end, ..said });
        }
        if let Some(message) = self.message {
            match self.root.written_for.last_mut() {
                Some(run) if run.message == message && run.end == start => run.end = end,
                _ => self.root.written_for.push(Said { message, start, end }),
            }
        }
        Ok(())
    }

    pub(crate) fn set(&mut self, name: &Name, value: Value) -> Result<()> {
        let mut variables = self.frame.variables.borrow_mut();
        self.meter.steps(1 + variables.len() / 8)?;
        match variables.iter_mut().find(|(other, _)| other == name) {
            Some((_, old)) => *old = value,
            None => {
                self.meter.list(1)?;
                variables.push((name.clone(), value));
            }
        }
        Ok(())
    }

    pub(crate) fn set_named(&mut self, name: &str, value: Value) {
        self.frame.variables.borrow_mut().push((name.into(), value));
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

    pub(crate) fn variable(&mut self, name: &Name) -> Result<Value> {
        let mut frame = Some(self.frame.clone());
        while let Some(here) = frame {
            let variables = here.variables.borrow();
            self.meter.steps(1 + variables.len() / 8)?;
            if let Some((_, value)) = variables.iter().find(|(other, _)| other == name) {
                return Ok(value.clone());
            }
            drop(variables);
            frame = here.parent.clone();
        }
        if let Some((_, value)) = self.context.iter().find(|(other, _)| **other == **name) {
            return Ok(value.clone());
        }
        Ok(match crate::calls::function(name) {
            Some(function) => Value::Object(Object::Function(function)),
            None => Value::Undefined(Missing::Variable(name.clone())),
        })
    }

    /// The elements of a value that can be iterated over.
    pub(crate) fn iterate(&mut self, value: &Value) -> Result<Items> {
        Ok(match value {
            Value::Undefined(Missing::Unsafe(..)) => return Err(missing(value)),
            Value::Undefined(_) => Items::Owned(Vec::new()),
            Value::Seq(seq) => Items::Shared(seq.clone()),
            Value::Dict(dict) => {
                self.meter.list(dict.entries().len())?;
                Items::Owned(dict.entries().iter().map(|(key, _)| key.clone()).collect())
            }
            Value::Str(text) => {
                // Each character is a text of its own.
                let count = text.as_str().chars().count();
                self.meter.list(count)?;
                self.meter.text(count.saturating_mul(24))?;
                let part = |(at, c): (usize, char)| Value::Str(text.part(at, at + c.len_utf8()));
                Items::Owned(text.as_str().char_indices().map(part).collect())
            }
            Value::Object(Object::Generator(number)) => {
                let rest = std::mem::take(&mut self.generators[*number]);
                Items::Owned(rest.into())
            }
            other => return Err(Error::operation(format!("a value of type {} is not iterable", other.type_name()))),
        })
    }

    fn new_macro(&mut self, definition: &'a Macro) -> Result<Value> {
        self.meter.list(1)?;
        self.macros.push(MacroState { definition, frame: self.frame.clone() });
        Ok(Value::Object(Object::Macro(self.macros.len() - 1)))
    }

    /// `bool()` of an expression.
    pub(crate) fn condition(&mut self, condition: &'a crate::ast::Expr) -> Result<bool> {
        let value = self.eval(condition)?;
        self.truth(&value)
    }

    pub(crate) fn truth(&mut self, value: &Value) -> Result<bool> {
        match value {
            Value::Undefined(Missing::Unsafe(..)) => Err(missing(value)),
            value => Ok(value.is_true()),
        }
    }

    pub(crate) fn postfixes(&mut self, mut value: Value, chain: &'a [Postfix]) -> Result<Value> {
        for postfix in chain {
            value = self.postfix(value, postfix).map_err(|error| error.at(postfix.line))?;
        }
        Ok(value)
    }
}
