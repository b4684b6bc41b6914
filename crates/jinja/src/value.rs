//! The values that templates work with: Python's, as far as data has them. Invariants: data never changes once made, so it
//! holds no cycles; nesting is bounded when it is made, so everything that walks over a value may recurse; and a text
//! remembers which part of it somebody said, which is how turns are found in a rendering.

use crate::error::{Error, Result};
use crate::meter::MAX_NESTING;
use std::sync::Arc;

pub use crate::dict::Dict;
pub(crate) use crate::text::TextBuilder;
pub use crate::text::{Said, Str};

/// A value of a template.
#[derive(Clone, Debug)]
pub enum Value {
    /// What is not there; printing it gives nothing, using it otherwise is an error that says what was missing.
    Undefined(Missing),
    /// `none`.
    None,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number.
    Int(i128),
    /// A floating-point number.
    Float(f64),
    /// A text.
    Str(Str),
    /// A list, a tuple, or a view of a dictionary.
    Seq(Arc<Seq>),
    /// A dictionary in the order of its making.
    Dict(Arc<Dict>),
    /// What exists only while a template runs.
    Object(Object),
}

/// What was looked for in vain.
#[derive(Clone, Debug, PartialEq)]
pub enum Missing {
    /// Nothing in particular.
    Something,
    /// A variable.
    Variable(Arc<str>),
    /// An attribute or key of a value of a type.
    Attribute(&'static str, Arc<str>),
    /// A method that would change a value.
    Unsafe(&'static str, Arc<str>),
}

/// Things with an identity; numbers are places in the tables of the interpreter.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// `namespace()`.
    Namespace(usize),
    /// A macro, or the `caller` of a call block.
    Macro(usize),
    /// `loop`.
    Loop(usize),
    /// A generator, which gives each of its elements once.
    Generator(usize),
    /// `cycler()`.
    Cycler(usize),
    /// `joiner()`.
    Joiner(usize),
    /// A method of a value.
    Method(Arc<(Value, Arc<str>)>),
    /// A function by its name.
    Function(&'static str),
}

/// Which sequence of Python's this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeqKind {
    /// `[1, 2]`.
    List,
    /// `(1, 2)`.
    Tuple,
    /// What `groupby` gives: a tuple whose parts are also `.grouper` and `.list`.
    Group,
    /// `range(2)`.
    Range,
    /// `d.keys()`.
    Keys,
    /// `d.values()`.
    Values,
    /// `d.items()`.
    Items,
}

/// A sequence.
#[derive(Debug)]
pub struct Seq {
    pub(crate) kind: SeqKind,
    pub(crate) items: Vec<Value>,
    depth: u16,
}

/// How deep what holds values of these depths nests.
pub(crate) fn nested(values: impl Iterator<Item = u16>) -> Result<u16> {
    let depth = values.max().unwrap_or(0) + 1;
    if depth > MAX_NESTING {
        return Err(Error::budget(format!("a list or dictionary is nested more than {MAX_NESTING} deep")));
    }
    Ok(depth)
}

impl Value {
    /// A value that is missing for no particular reason.
    pub const UNDEFINED: Value = Value::Undefined(Missing::Something);

    pub(crate) fn depth(&self) -> u16 {
        match self {
            Value::Seq(seq) => seq.depth,
            Value::Dict(dict) => dict.depth,
            Value::Object(Object::Method(method)) => method.0.depth() + 1,
            _ => 0,
        }
    }

    pub(crate) fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Str(Str::new(text, None))
    }

    pub(crate) fn seq(kind: SeqKind, items: Vec<Value>) -> Result<Value> {
        let depth = nested(items.iter().map(Value::depth))?;
        Ok(Value::Seq(Arc::new(Seq { kind, items, depth })))
    }

    /// A list.
    ///
    /// # Errors
    /// Nested too deep.
    pub fn list(items: Vec<Value>) -> Result<Value> {
        Value::seq(SeqKind::List, items)
    }

    pub(crate) fn tuple(items: Vec<Value>) -> Result<Value> {
        Value::seq(SeqKind::Tuple, items)
    }

    /// A dictionary of texts to values; of two entries of one key the last counts.
    ///
    /// # Errors
    /// Nested too deep.
    pub fn dict(entries: impl IntoIterator<Item = (String, Value)>) -> Result<Value> {
        let mut dict = Dict::default();
        for (key, value) in entries {
            dict.insert(Value::text(key), value)?;
        }
        Ok(Value::Dict(Arc::new(dict)))
    }

    /// The text of a text.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Value::Str(text) => Some(&text.text),
            _ => None,
        }
    }

    /// The elements of a list or tuple.
    pub fn items(&self) -> Option<&[Value]> {
        match self {
            Value::Seq(seq) => Some(&seq.items),
            _ => None,
        }
    }

    /// The dictionary that this is.
    pub fn as_dict(&self) -> Option<&Dict> {
        match self {
            Value::Dict(dict) => Some(dict),
            _ => None,
        }
    }

    /// What a dictionary has under a key.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.as_dict()?.get_str(key)
    }

    /// Python's `bool()`, for what is no object.
    pub fn is_true(&self) -> bool {
        match self {
            Value::Undefined(_) | Value::None => false,
            Value::Bool(value) => *value,
            Value::Int(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Str(text) => !text.text.is_empty(),
            Value::Seq(seq) => !seq.items.is_empty(),
            Value::Dict(dict) => !dict.entries.is_empty(),
            Value::Object(_) => true,
        }
    }

    /// Bytes of all texts in it and a few per element, which say how large the data is.
    pub fn text_bytes(&self) -> usize {
        match self {
            Value::Str(text) => text.text.len() + 8,
            Value::Seq(seq) => seq.items.iter().map(Value::text_bytes).sum::<usize>() + 8,
            Value::Dict(dict) => {
                dict.entries.iter().map(|(key, value)| key.text_bytes() + value.text_bytes()).sum::<usize>() + 8
            }
            _ => 8,
        }
    }

    pub(crate) fn is_undefined(&self) -> bool {
        matches!(self, Value::Undefined(_))
    }

    /// Python's name of the type.
    pub(crate) fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined(_) => "undefined",
            Value::None => "NoneType",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Float(_) => "float",
            Value::Str(_) => "str",
            Value::Seq(seq) => match seq.kind {
                SeqKind::List => "list",
                SeqKind::Tuple | SeqKind::Group => "tuple",
                SeqKind::Range => "range",
                SeqKind::Keys => "dict_keys",
                SeqKind::Values => "dict_values",
                SeqKind::Items => "dict_items",
            },
            Value::Dict(_) => "dict",
            Value::Object(Object::Namespace(_)) => "Namespace",
            Value::Object(Object::Macro(_)) => "Macro",
            Value::Object(Object::Loop(_)) => "LoopContext",
            Value::Object(Object::Generator(_)) => "generator",
            Value::Object(Object::Cycler(_)) => "Cycler",
            Value::Object(Object::Joiner(_)) => "Joiner",
            Value::Object(Object::Method(_) | Object::Function(_)) => "function",
        }
    }

    /// The value with all its texts marked as said by a message, as [`Said`] has it.
    ///
    /// # Errors
    /// None in practice: the value keeps its depth.
    pub fn said_by(&self, message: u32) -> Result<Value> {
        Ok(match self {
            Value::Str(text) => {
                Value::Str(Str::new(text.text.clone(), Some(Said { message, start: 0, end: text.text.len() })))
            }
            Value::Seq(seq) => {
                let items = seq.items.iter().map(|item| item.said_by(message)).collect::<Result<_>>()?;
                Value::seq(seq.kind, items)?
            }
            Value::Dict(dict) => {
                let mut said = Dict::default();
                said.message = dict.message;
                for (key, value) in &dict.entries {
                    said.insert(key.clone(), value.said_by(message)?)?;
                }
                Value::Dict(Arc::new(said))
            }
            other => other.clone(),
        })
    }
}

/// Python's `==` without a budget, for keys of dictionaries and for data that nobody can make grow.
impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Value::Undefined(_), Value::Undefined(_)) | (Value::None, Value::None) => true,
            (Value::Str(left), Value::Str(right)) => left.text == right.text,
            (Value::Seq(left), Value::Seq(right)) => left.kind == right.kind && left.items == right.items,
            (Value::Dict(left), Value::Dict(right)) => {
                let same = |(key, value): &(Value, Value)| right.get(key) == Some(value);
                left.entries.len() == right.entries.len() && left.entries.iter().all(same)
            }
            (Value::Object(left), Value::Object(right)) => left == right,
            (left, right) => match (Number::of(left), Number::of(right)) {
                (Some(left), Some(right)) => left.equals(right),
                _ => false,
            },
        }
    }
}

/// A number as Python calculates with it: `true` is 1.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub(crate) fn of(value: &Value) -> Option<Number> {
        match value {
            Value::Bool(value) => Some(Number::Int(i128::from(*value))),
            Value::Int(value) => Some(Number::Int(*value)),
            Value::Float(value) => Some(Number::Float(*value)),
            _ => None,
        }
    }

    pub(crate) fn float(self) -> f64 {
        match self {
            Number::Int(value) => value as f64,
            Number::Float(value) => value,
        }
    }

    fn equals(self, other: Number) -> bool {
        match (self, other) {
            (Number::Int(left), Number::Int(right)) => left == right,
            (left, right) => left.float() == right.float(),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::text(text)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Value::text(text)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Bool(value)
    }
}
