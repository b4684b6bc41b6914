//! Attributes that may be infinite: in the text form, whose numbers are JSON's, they are written "inf" and "-inf".
//!
//! For `#[serde(with = "crate::number")]`. Invariant: what is written is read back to the bit; NaN is refused.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// A number of the text form.
#[derive(Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f32),
    Name(String),
}

pub(crate) fn serialize<S: Serializer>(value: &f32, serializer: S) -> Result<S::Ok, S::Error> {
    if value.is_finite() {
        return serializer.serialize_f32(*value);
    }
    serializer.serialize_str(if *value > 0.0 { "inf" } else { "-inf" })
}

pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f32, D::Error> {
    match Written::deserialize(deserializer)? {
        Written::Number(value) => Ok(value),
        Written::Name(name) if name == "inf" => Ok(f32::INFINITY),
        Written::Name(name) if name == "-inf" => Ok(f32::NEG_INFINITY),
        Written::Name(name) => Err(D::Error::custom(format!("'{name:.20}' is no number, \"inf\" or \"-inf\""))),
    }
}
