//! PEFT's `adapter_config.json`, read and written. Key names and defaults are those of peft's LoraConfig.
//!
//! Invariant: a key that is read is either carried in [`AdapterConfig`] or listed in `unknown`, so nothing is lost silently.

use crate::FormatsError;
use crate::atomic::write_atomic;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::path::Path;

const FILE: &str = "adapter_config.json";

/// Which modules an adapter applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Exact names or suffixes.
    Names(Vec<String>),
    /// A regular expression, or `all-linear`.
    Pattern(String),
}

/// The settings of a LoRA adapter, under PEFT's names.
#[derive(Debug, Clone, PartialEq)]
#[allow(missing_docs)]
pub struct AdapterConfig {
    pub peft_type: String,
    pub r: usize,
    pub lora_alpha: f64,
    pub lora_dropout: f64,
    pub target_modules: TargetModules,
    pub bias: String,
    pub fan_in_fan_out: bool,
    pub use_rslora: bool,
    pub use_dora: bool,
    pub rank_pattern: BTreeMap<String, Value>,
    pub alpha_pattern: BTreeMap<String, Value>,
    pub modules_to_save: Vec<String>,
    pub exclude_modules: Option<Value>,
    pub layers_to_transform: Option<Value>,
    pub base_model_name_or_path: Option<String>,
    /// Keys of the file that have no meaning here.
    pub unknown: Vec<String>,
}

impl AdapterConfig {
    /// A plain LoRA adapter for a causal language model.
    pub fn lora(rank: usize, alpha: f64, targets: TargetModules) -> Self {
        AdapterConfig {
            peft_type: "LORA".to_string(),
            r: rank,
            lora_alpha: alpha,
            lora_dropout: 0.0,
            target_modules: targets,
            bias: "none".to_string(),
            fan_in_fan_out: false,
            use_rslora: false,
            use_dora: false,
            rank_pattern: BTreeMap::new(),
            alpha_pattern: BTreeMap::new(),
            modules_to_save: Vec::new(),
            exclude_modules: None,
            layers_to_transform: None,
            base_model_name_or_path: None,
            unknown: Vec::new(),
        }
    }

    /// Reads `adapter_config.json` of an adapter folder.
    ///
    /// # Errors
    /// A missing or malformed file, or a key of the wrong type.
    pub fn from_dir(folder: &Path) -> Result<Self, FormatsError> {
        let path = folder.join(FILE);
        let text = std::fs::read_to_string(&path).map_err(FormatsError::io(&path, "read the adapter's settings"))?;
        let json = serde_json::from_str(&text).map_err(|error| FormatsError::malformed(&path, error.to_string()))?;
        let Value::Object(object) = json else {
            return Err(FormatsError::malformed(&path, "must hold a JSON object"));
        };
        read(&path, object)
    }

    /// Writes `adapter_config.json` into a folder, as PEFT does: two spaces, sorted keys.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), FormatsError> {
        let targets = match &self.target_modules {
            TargetModules::Names(names) => Value::from(names.clone()),
            TargetModules::Pattern(pattern) => Value::from(pattern.clone()),
        };
        // serde_json's map keeps its keys sorted.
        let json = serde_json::json!({
            "alpha_pattern": self.alpha_pattern,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": self.bias,
            "exclude_modules": self.exclude_modules,
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": true,
            "init_lora_weights": true,
            "layers_pattern": null,
            "layers_to_transform": self.layers_to_transform,
            "lora_alpha": number(self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "modules_to_save": if self.modules_to_save.is_empty() { Value::Null } else { self.modules_to_save.clone().into() },
            "peft_type": self.peft_type,
            "r": self.r,
            "rank_pattern": self.rank_pattern,
            "revision": null,
            "target_modules": targets,
            "task_type": "CAUSAL_LM",
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        });
        let path = folder.join(FILE);
        let mut text =
            serde_json::to_string_pretty(&json).map_err(|e| FormatsError::malformed(&path, e.to_string()))?;
        text.push('\n');
        write_atomic(&path, text.as_bytes())
    }
}

/// A whole number as an integer, as PEFT writes alpha.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { Value::from(x as i64) } else { Value::from(x) }
}

/// Keys that say nothing about what is computed.
const IGNORED: [&str; 5] = ["task_type", "inference_mode", "init_lora_weights", "layers_pattern", "revision"];

fn read(path: &Path, mut object: Map<String, Value>) -> Result<AdapterConfig, FormatsError> {
    let wrong = |key: &str, value: &Value, expected: &str| {
        FormatsError::key(path, key, format!("is {value}; it must be {expected}"))
    };
    let mut take = |key: &str| object.remove(key).filter(|value| !value.is_null());
    let mut config = AdapterConfig::lora(8, 8.0, TargetModules::Names(Vec::new()));
    if let Some(value) = take("peft_type") {
        config.peft_type = value.as_str().ok_or_else(|| wrong("peft_type", &value, "a string"))?.to_string();
    }
    if let Some(value) = take("r") {
        let rank = value.as_u64().filter(|rank| (1..=1 << 20).contains(rank));
        config.r = rank.ok_or_else(|| wrong("r", &value, "a rank of at least 1"))? as usize;
    }
    for (key, target) in [("lora_alpha", &mut config.lora_alpha), ("lora_dropout", &mut config.lora_dropout)] {
        if let Some(value) = take(key) {
            *target = value.as_f64().ok_or_else(|| wrong(key, &value, "a number"))?;
        }
    }
    if let Some(value) = take("bias") {
        config.bias = value.as_str().ok_or_else(|| wrong("bias", &value, "a string"))?.to_string();
    }
    for (key, target) in [
        ("fan_in_fan_out", &mut config.fan_in_fan_out),
        ("use_rslora", &mut config.use_rslora),
        ("use_dora", &mut config.use_dora),
    ] {
        if let Some(value) = take(key) {
            *target = value.as_bool().ok_or_else(|| wrong(key, &value, "true or false"))?;
        }
    }
    for (key, target) in [("rank_pattern", &mut config.rank_pattern), ("alpha_pattern", &mut config.alpha_pattern)] {
        if let Some(value) = take(key) {
            let map = value.as_object().ok_or_else(|| wrong(key, &value, "an object"))?;
            *target = map.clone().into_iter().collect();
        }
    }
    let strings = |key: &str, value: &Value| -> Result<Vec<String>, FormatsError> {
        let list = value.as_array().and_then(|list| list.iter().map(|v| v.as_str().map(str::to_string)).collect());
        list.ok_or_else(|| wrong(key, value, "a list of names"))
    };
    match take("target_modules") {
        Some(Value::String(pattern)) => config.target_modules = TargetModules::Pattern(pattern),
        Some(value) => config.target_modules = TargetModules::Names(strings("target_modules", &value)?),
        None => return Err(FormatsError::key(path, "target_modules", "is missing; it names the adapted modules")),
    }
    if let Some(value) = take("modules_to_save") {
        config.modules_to_save = strings("modules_to_save", &value)?;
    }
    config.exclude_modules = take("exclude_modules");
    config.layers_to_transform = take("layers_to_transform");
    config.base_model_name_or_path = take("base_model_name_or_path").and_then(|v| v.as_str().map(str::to_string));
    config.unknown = object.into_iter().filter(|(key, value)| is_news(key, value)).map(|(key, _)| key).collect();
    Ok(config)
}

/// Whether a key that is not carried may change what the adapter does.
fn is_news(key: &str, value: &Value) -> bool {
    let empty = match value {
        Value::Null | Value::Bool(false) => true,
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        _ => false,
    };
    !empty && !IGNORED.contains(&key)
}
