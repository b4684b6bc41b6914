//! The values that templates work with: Python's, as far as data has them. Invariants: data never changes once made, so it
//! holds no cycles; nesting is bounded when it is made, so everything that walks over a value may recurse; and a text
//! remembers which part of it somebody said, which is how turns are found in a rendering.

use crate::error::{Error, Result};
use crate::number::Number;
use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use crate::text::TextBuilder;
pub use crate::text::{Said, Str};

/// Deepest nesting of lists and dictionaries within each other.
const MAX_NESTING: u16 = 200;
/// Dictionaries of more entries are looked up by hash.
const INDEXED_FROM: usize = 8;

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

/// A dictionary in the order of its making, as Python's: a key is there once. Keys are texts, numbers, truth values and
/// nothing, so comparing two of them takes one step.
#[derive(Debug, Default)]
pub struct Dict {
    entries: Vec<(Value, Value)>,
    index: HashMap<Arc<str>, usize>,
    depth: u16,
    message: Option<u32>,
}

/// How deep what holds values of these depths nests.
fn nested(values: impl Iterator<Item = u16>) -> Result<u16> {
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

    /// The number that it is to Python, where `true` is 1.
    pub(crate) fn number(&self) -> Option<Number> {
        match self {
            Value::Bool(value) => Some(Number::Int(i128::from(*value))),
            Value::Int(value) => Some(Number::Int(*value)),
            Value::Float(value) => Some(Number::Float(*value)),
            _ => None,
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
                let mut said = Dict { message: dict.message, ..Dict::default() };
                for (key, value) in &dict.entries {
                    said.insert(key.clone(), value.said_by(message)?)?;
                }
                Value::Dict(Arc::new(said))
            }
            other => other.clone(),
        })
    }
}

impl Dict {
    /// Entries in their order.
    pub fn entries(&self) -> &[(Value, Value)] {
        &self.entries
    }

    /// Which message of the conversation this is.
    pub fn message(&self) -> Option<u32> {
        self.message
    }

    /// This dictionary as a message of a conversation.
    pub fn as_message(mut self, message: u32) -> Value {
        self.message = Some(message);
        Value::Dict(Arc::new(self))
    }

    /// The value of a text.
    pub fn get_str(&self, key: &str) -> Option<&Value> {
        if self.entries.len() > INDEXED_FROM {
            return self.index.get(key).map(|&at| &self.entries[at].1);
        }
        self.entries.iter().find(|(other, _)| other.as_str() == Some(key)).map(|(_, value)| value)
    }

    /// The value of a key. Keys that are no texts are few, and are looked for one by one.
    pub(crate) fn get(&self, key: &Value) -> Option<&Value> {
        match key {
            Value::Str(text) => self.get_str(&text.text),
            key => self.entries.iter().find(|(other, _)| other == key).map(|(_, value)| value),
        }
    }

    /// Steps that a look-up takes.
    pub(crate) fn look_up_steps(&self, key: &Value) -> usize {
        if matches!(key, Value::Str(_)) { 1 } else { 1 + self.entries.len() }
    }

    /// Puts a value under a key: behind the others, or in the place of the key's other value.
    ///
    /// # Errors
    /// Nested too deep.
    pub fn insert(&mut self, key: Value, value: Value) -> Result<()> {
        self.depth = self.depth.max(nested([key.depth(), value.depth()].into_iter())?);
        let place = match &key {
            Value::Str(text) if self.entries.len() > INDEXED_FROM => self.index.get(&*text.text).copied(),
            key => self.entries.iter().position(|(other, _)| other == key),
        };
        if let Some(place) = place {
            self.entries[place].1 = value;
            return Ok(());
        }
        if self.entries.len() == INDEXED_FROM {
            let texts = self.entries.iter().enumerate().filter_map(|(at, (key, _))| match key {
                Value::Str(text) => Some((text.text.clone(), at)),
                _ => None,
            });
            self.index = texts.collect();
        }
        if let Value::Str(text) = &key
            && self.entries.len() >= INDEXED_FROM
        {
            self.index.insert(text.text.clone(), self.entries.len());
        }
        self.entries.push((key, value));
        Ok(())
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
            (left, right) => match (left.number(), right.number()) {
                (Some(left), Some(right)) => left.equals(right),
                _ => false,
            },
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
