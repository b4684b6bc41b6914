//! The door for a library user's own ops: `Custom(name, attributes)` with a definition behind it.
//!
//! Invariants: a custom op is held to what every op is held to: result types from `infer`, a derivative that emits IR, a
//! naive f64 `eval` that is its meaning; its kernel is registered with the executor under its name. Two custom ops are
//! equal if name and attributes are. Look next at `ops` for the closed set and at the executor for kernels.

use crate::ops::OpDef;
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// What a user defines of an op. `attributes` is text in a form of the definition's own choosing.
pub trait CustomOp: Send + Sync {
    /// Unique among custom ops; kernels are registered under it.
    fn name(&self) -> &str;

    /// Result types for these operand types, or what does not fit.
    fn infer(&self, attributes: &str, inputs: &[&Type]) -> Result<Vec<Type>, String>;

    /// Emits the vector-Jacobian product, as [`OpDef::vjp`] does; without one the op refuses to be differentiated.
    ///
    /// # Errors
    /// A derivative that does not exist.
    fn vjp(&self, attributes: &str, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let _ = attributes;
        Err(cx.refuse("custom", &format!("\"{}\" defines no vjp", self.name())))
    }

    /// Work for these types; without one, every operand and result moved once.
    fn cost(&self, attributes: &str, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        let _ = attributes;
        Cost::new(0.0, inputs, outputs)
    }

    /// By which rates its time is predicted: those of what it is most like.
    fn class(&self, attributes: &str, inputs: &[&Type], outputs: &[&Type]) -> OpClass {
        let _ = (attributes, inputs, outputs);
        OpClass::Stream
    }

    /// The meaning: naive, in f64.
    fn eval(&self, attributes: &str, inputs: &[&Array], results: &[&Type]) -> Vec<Array>;

    /// Whether equal operands give equal bits. What does not is never computed twice: its results are kept.
    fn deterministic(&self) -> bool {
        true
    }
}

/// A custom op with its attributes.
#[derive(Clone)]
pub struct Custom {
    definition: Arc<dyn CustomOp>,
    attributes: String,
}

impl Custom {
    /// The op of a definition.
    pub fn new(definition: Arc<dyn CustomOp>, attributes: &str) -> Self {
        Custom { definition, attributes: attributes.to_string() }
    }

    /// The definition's name.
    pub fn custom_name(&self) -> &str {
        self.definition.name()
    }

    /// The attributes, as they were given.
    pub fn attributes(&self) -> &str {
        &self.attributes
    }

    /// The JSON object of the text form.
    pub(crate) fn to_json(&self) -> String {
        serde_json::json!({ "attributes": self.attributes, "name": self.custom_name() }).to_string()
    }
}

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Custom({:?}, {:?})", self.custom_name(), self.attributes)
    }
}

impl PartialEq for Custom {
    fn eq(&self, other: &Custom) -> bool {
        self.custom_name() == other.custom_name() && self.attributes == other.attributes
    }
}

impl OpDef for Custom {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let named = |problem| format!("\"{}\": {problem}", self.custom_name());
        let results = self.definition.infer(&self.attributes, inputs).map_err(named)?;
        if results.is_empty() { Err(named("has no result".to_string())) } else { Ok(results) }
    }

    fn is_deterministic(&self) -> bool {
        self.definition.deterministic()
    }

    fn class(&self, inputs: &[&Type], outputs: &[&Type]) -> OpClass {
        self.definition.class(&self.attributes, inputs, outputs)
    }

    /// Dtypes are its definition's affair.
    fn activations(&self, _operands: usize) -> Range<usize> {
        0..0
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let cotangents = self.definition.vjp(&self.attributes, cx)?;
        if cotangents.len() == cx.inputs.len() {
            return Ok(cotangents);
        }
        let (name, given) = (self.custom_name(), cotangents.len());
        Err(cx.refuse("custom", &format!("\"{name}\" gave {given} cotangents for {} operands", cx.inputs.len())))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        self.definition.cost(&self.attributes, inputs, outputs)
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        self.definition.eval(&self.attributes, inputs, results)
    }

    /// None: what a user defines is tested where it is defined.
    fn samples() -> Vec<Sample> {
        Vec::new()
    }
}

/// Definitions by name: what [`crate::parse_with`] reads custom ops with.
#[derive(Clone, Default)]
pub struct CustomOps {
    by_name: HashMap<String, Arc<dyn CustomOp>>,
}

impl CustomOps {
    /// No definitions.
    pub fn new() -> Self {
        CustomOps::default()
    }

    /// Adds a definition, in place of another of its name.
    pub fn register(&mut self, definition: Arc<dyn CustomOp>) {
        self.by_name.insert(definition.name().to_string(), definition);
    }

    /// The op of the text form's JSON object.
    pub(crate) fn read(&self, text: &str) -> Result<Custom, String> {
        let json: serde_json::Value = serde_json::from_str(text).map_err(|error| format!("attributes: {error}"))?;
        let field = |key: &str| json.get(key).and_then(|value| value.as_str());
        let (Some(name), Some(attributes)) = (field("name"), field("attributes")) else {
            return Err("a custom op has the attributes \"name\" and \"attributes\", both text".to_string());
        };
        let definition = self.by_name.get(name);
        let definition =
            definition.ok_or_else(|| format!("custom op \"{name}\" is not registered: add its definition"))?;
        Ok(Custom::new(definition.clone(), attributes))
    }
}

impl fmt::Debug for CustomOps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.by_name.keys()).finish()
    }
}
