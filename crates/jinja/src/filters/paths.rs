//! Attributes of attributes, by which filters order, choose and replace what they are given. Invariant: each step of a path is
//! paid for.

use crate::error::{Error, Result};
use crate::interp::Interp;
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
