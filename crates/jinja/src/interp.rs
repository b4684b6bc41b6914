//! A rendering in the making: its budget, its scopes, what it has written, and the things that live while it runs.
//! `statements`, `eval`, `loops` and `calls` walk over a template's tree with it; `attributes`, `methods`, `checks` and
//! `filters` work on its values.
//!
//! Invariants: what a template sees is what it was given and what it made; calls nest only so deep. Scopes are Jinja's: a
//! loop's step, a macro, a block that is captured and `with` have one each, an `if` has none; reading looks through the
//! scopes around, writing stays in the innermost.

use crate::ast::{For, Macro, Name};
use crate::builtins::function;
use crate::comparing::check_key;
use crate::error::{Error, Result};
use crate::meter::{Budget, Meter};
use crate::show::{self, missing};
use crate::sorting::Items;
use crate::value::{Dict, Missing, Object, Said, Str, TextBuilder, Value};
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

impl<'a> Interp<'a> {
    /// Before the first statement.
    pub(crate) fn new(context: &'a [(&'a str, Value)], host: &'a Host<'a>) -> Self {
        Interp {
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
        }
    }

    /// What was written.
    pub(crate) fn into_rendering(self) -> Rendering {
        self.root
    }

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

    /// Bytes of the text so far, not counting what is captured.
    pub(crate) fn written_bytes(&self) -> usize {
        self.root.text.len()
    }

    /// Notes that a `{% generation %}` block wrote all from `start` on.
    pub(crate) fn note_generation(&mut self, start: usize) {
        match self.captures.is_empty() {
            true => self.root.generations.push(start..self.root.text.len()),
            false => self.root.generation_captured = true,
        }
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
        Ok(match function(name) {
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

    pub(crate) fn truth(&mut self, value: &Value) -> Result<bool> {
        match value {
            Value::Undefined(Missing::Unsafe(..)) => Err(missing(value)),
            value => Ok(value.is_true()),
        }
    }

    /// A generator over these.
    pub(crate) fn generator(&mut self, items: Vec<Value>) -> Result<Value> {
        self.meter.list(1)?;
        self.generators.push(items.into());
        Ok(Value::Object(Object::Generator(self.generators.len() - 1)))
    }

    /// Puts an entry into a dictionary that is being made.
    pub(crate) fn put(&mut self, dict: &mut Dict, key: Value, value: Value) -> Result<()> {
        check_key(&key)?;
        self.meter.list(4)?;
        self.meter.steps(dict.look_up_steps(&key))?;
        dict.insert(key, value)
    }
}
