//! What a value has under a name or an index: attributes, methods, keys and elements. Invariant: an attribute of Python's
//! type goes before a key where Jinja has it so, and no name reaches a method that would change a value.

use crate::ast::Name;
use crate::error::Result;
use crate::indexing;
use crate::interp::Interp;
use crate::methods;
use crate::show::{self, missing};
use crate::value::{Missing, Object, SeqKind, Value};
use std::sync::Arc;

/// Methods that would change a list or dictionary, which transformers' sandbox refuses.
const CHANGING: [&str; 13] = [
    "append",
    "clear",
    "extend",
    "insert",
    "pop",
    "popitem",
    "remove",
    "reverse",
    "setdefault",
    "sort",
    "update",
    "add",
    "discard",
];

impl Interp<'_> {
    /// `value.name`: an attribute of Python's type before a key, as in Jinja.
    pub(crate) fn attribute(&mut self, value: &Value, name: &Name) -> Result<Value> {
        if let Some(changing) = self.forbidden(value, name) {
            return Ok(changing);
        }
        if methods::has(value, name) {
            return Ok(Value::Object(Object::Method(Arc::new((value.clone(), name.clone())))));
        }
        match value {
            Value::Undefined(_) => Err(missing(value)),
            Value::Dict(dict) => match dict.get_str(name) {
                Some(found) => Ok(found.clone()),
                None => Ok(Value::Undefined(Missing::Attribute("dict", name.clone()))),
            },
            Value::Object(object) => self.object_attribute(value, object, name),
            Value::Seq(seq) if seq.kind == SeqKind::Group && **name == *"grouper" => Ok(seq.items[0].clone()),
            Value::Seq(seq) if seq.kind == SeqKind::Group && **name == *"list" => Ok(seq.items[1].clone()),
            other => Ok(Value::Undefined(Missing::Attribute(other.type_name(), name.clone()))),
        }
    }

    /// What a method is that would change its value.
    fn forbidden(&self, value: &Value, name: &Name) -> Option<Value> {
        let changes = match value {
            Value::Dict(_) => matches!(&**name, "clear" | "pop" | "popitem" | "setdefault" | "update"),
            Value::Seq(_) => CHANGING.contains(&&**name),
            _ => false,
        };
        changes.then(|| Value::Undefined(Missing::Unsafe(value.type_name(), name.clone())))
    }

    fn object_attribute(&mut self, value: &Value, object: &Object, name: &Name) -> Result<Value> {
        let found = match object {
            Object::Namespace(number) => {
                let attributes = &self.namespaces[*number];
                self.meter.steps(1 + attributes.len() / 8)?;
                attributes.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone())
            }
            Object::Loop(number) => self.loop_attribute(*number, name)?,
            Object::Cycler(number) if **name == *"current" => {
                let (items, at) = &self.cyclers[*number];
                items.get(*at).cloned()
            }
            Object::Macro(number) if **name == *"name" => {
                Some(Value::text(self.macros[*number].definition.name.clone()))
            }
            _ => None,
        };
        Ok(found.unwrap_or_else(|| Value::Undefined(Missing::Attribute(value.type_name(), name.clone()))))
    }

    fn loop_attribute(&mut self, number: usize, name: &str) -> Result<Option<Value>> {
        let state = &self.loops[number];
        let (index, count) = (state.index, state.items.len());
        let int = |value: usize| Some(Value::Int(value as i128));
        Ok(match name {
            "index" => int(index + 1),
            "index0" => int(index),
            "revindex" => int(count - index),
            "revindex0" => int(count - index - 1),
            "first" => Some(Value::Bool(index == 0)),
            "last" => Some(Value::Bool(index + 1 == count)),
            "length" => int(count),
            "depth" => int(state.depth),
            "depth0" => int(state.depth - 1),
            "previtem" if index > 0 => Some(state.items[index - 1].clone()),
            "nextitem" if index + 1 < count => Some(state.items[index + 1].clone()),
            "previtem" | "nextitem" => Some(Value::UNDEFINED),
            _ => None,
        })
    }

    /// `value[index]`: a key before an attribute of Python's type.
    pub(crate) fn item(&mut self, value: &Value, index: &Value) -> Result<Value> {
        if let Some(found) = indexing::item(value, index, &mut self.meter)? {
            return Ok(found);
        }
        match index {
            Value::Str(name) => {
                let name = name.text().clone();
                self.attribute(value, &name)
            }
            Value::Undefined(_) => Err(missing(index)),
            index => {
                let index = show::repr(index, &mut self.meter)?;
                Ok(Value::Undefined(Missing::Attribute(value.type_name(), index.text().clone())))
            }
        }
    }
}
