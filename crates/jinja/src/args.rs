//! The arguments of a call. Invariant: an argument that nobody asks for is an error, as in Python.

use crate::ast::Name;
use crate::error::{Error, Result, excerpt};
use crate::meter::Meter;
use crate::number::Number;
use crate::show::missing;
use crate::value::Value;

/// The arguments of a call.
#[derive(Default)]
pub(crate) struct Args {
    pub(crate) positional: Vec<Value>,
    pub(crate) named: Vec<(Name, Value)>,
}

impl Args {
    /// Binds the arguments to parameters of these names, each given or not.
    pub(crate) fn bind<const N: usize>(self, what: &str, names: [&str; N]) -> Result<[Option<Value>; N]> {
        let too_many = self.positional.len();
        if too_many > N {
            return Err(Error::operation(format!("{what} takes {N} arguments, not {too_many}")));
        }
        let mut values = [const { None }; N];
        for (slot, value) in values.iter_mut().zip(self.positional) {
            *slot = Some(value);
        }
        for (name, value) in self.named {
            let place = names.iter().position(|other| *other == &*name);
            let place =
                place.ok_or_else(|| Error::operation(format!("{what} has no parameter '{}'", excerpt(&name))))?;
            if values[place].replace(value).is_some() {
                return Err(Error::operation(format!("{what} got two values for '{name}'")));
            }
        }
        Ok(values)
    }

    /// The same arguments for one more call.
    pub(crate) fn copy(&self, meter: &mut Meter) -> Result<Args> {
        meter.steps(1 + self.positional.len() + self.named.len())?;
        Ok(Args { positional: self.positional.clone(), named: self.named.clone() })
    }

    /// A call without arguments.
    pub(crate) fn none(self, what: &str) -> Result<()> {
        self.bind(what, []).map(|[]| ())
    }
}

/// The whole number that an argument must be.
pub(crate) fn int(what: &str, value: &Value) -> Result<i128> {
    match value.number() {
        Some(Number::Int(value)) => Ok(value),
        _ if value.is_undefined() => Err(missing(value)),
        _ => Err(Error::operation(format!("{what} needs a whole number, not {}", value.type_name()))),
    }
}

/// A count of something, 0 if it is below.
pub(crate) fn count(what: &str, value: &Value) -> Result<usize> {
    Ok(usize::try_from(int(what, value)?.max(0)).unwrap_or(usize::MAX))
}
