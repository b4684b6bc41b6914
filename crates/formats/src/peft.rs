//! PEFT's `adapter_config.json`, read and written. Key names and defaults are those of peft's LoraConfig.
//!
//! Invariant: a key that is read is carried in [`AdapterConfig`], or is known to say nothing about what is computed, or
//! is listed in `unsupported` or `unknown`: nothing is lost silently. What is supported, `model` decides.

use crate::FormatsError;
use crate::atomic::write_atomic;
use crate::error::excerpt;
use crate::json::{self, CONFIG_LIMIT_BYTES};
use crate::keys::Keys;
use crate::own_files;
use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use std::fmt;
use std::path::Path;

const FILE: &str = "adapter_config.json";
const LARGEST_RANK: usize = 1 << 16;

/// Which modules an adapter applies to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TargetModules {
    /// Exact names or suffixes.
    Names(Vec<String>),
    /// A regular expression, or `all-linear`.
    Pattern(String),
}

/// Tokens whose rows are trained in place of the base's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenIndices {
    /// Of the embedding.
    Embedding(Vec<usize>),
    /// By the ends of module names.
    Modules(Vec<(String, Vec<usize>)>),
}

/// The settings of a LoRA adapter, under PEFT's names.
#[derive(Debug, Clone, PartialEq)]
pub struct AdapterConfig {
    /// The method, `LORA` for what this describes.
    pub peft_type: String,
    /// Rank.
    pub r: usize,
    /// Numerator of the scale.
    pub lora_alpha: f64,
    /// Dropout of an adapter's input in training.
    pub lora_dropout: f64,
    /// The adapted modules.
    pub target_modules: TargetModules,
    /// Whether modules to save that are tied stay so.
    pub ensure_weight_tying: bool,
    /// Which biases were trained: `none`, `all` or `lora_only`.
    pub bias: String,
    /// Whether the base weights are stored [in, out].
    pub fan_in_fan_out: bool,
    /// Whether the scale is α/√r instead of α/r.
    pub use_rslora: bool,
    /// Whether weights are decomposed (DoRA).
    pub use_dora: bool,
    /// How the adapter was started, where that was by a method with a name and left the base as it was; else the default.
    pub init_lora_weights: Option<String>,
    /// Ranks that differ, by the end of a module's name, a regular expression; the first that matches counts.
    pub rank_pattern: Vec<(String, usize)>,
    /// Alphas that differ, in the same way.
    pub alpha_pattern: Vec<(String, f64)>,
    /// Modules that were trained whole.
    pub modules_to_save: Vec<String>,
    /// Tokens whose rows were trained.
    pub trainable_token_indices: Option<TokenIndices>,
    /// Modules that are left out.
    pub exclude_modules: Option<TargetModules>,
    /// The only layers that are adapted; `None` if all are.
    pub layers_to_transform: Option<Vec<usize>>,
    /// What is named before a layer's number, where that is not clear; empty if it is.
    pub layers_pattern: Vec<String>,
    /// The base model's folder or name.
    pub base_model_name_or_path: Option<String>,
    /// The base model's commit, where it is named and not a folder.
    pub revision: Option<String>,
    /// PEFT's keys whose value here changes what the adapter computes, in ways that no field above tells.
    pub unsupported: Vec<String>,
    /// Keys that PEFT 0.21 does not have either, for a warning.
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
            ensure_weight_tying: false,
            bias: "none".to_string(),
            fan_in_fan_out: false,
            use_rslora: false,
            use_dora: false,
            init_lora_weights: None,
            rank_pattern: Vec::new(),
            alpha_pattern: Vec::new(),
            modules_to_save: Vec::new(),
            trainable_token_indices: None,
            exclude_modules: None,
            layers_to_transform: None,
            layers_pattern: Vec::new(),
            base_model_name_or_path: None,
            revision: None,
            unsupported: Vec::new(),
            unknown: Vec::new(),
        }
    }

    /// Reads `adapter_config.json` of an adapter folder.
    ///
    /// # Errors
    /// A missing or malformed file, or a key of the wrong type.
    pub fn from_dir(folder: &Path) -> Result<Self, FormatsError> {
        let path = folder.join(FILE);
        let remedy = "give the folder of a PEFT adapter, with adapter_config.json in it";
        let text = json::read_text(&path, CONFIG_LIMIT_BYTES, own_files::remedy(folder, remedy))?;
        AdapterConfig::parse(&path, &text)
    }

    /// Parses the text of an `adapter_config.json`; `path` is for messages.
    ///
    /// # Errors
    /// As [`AdapterConfig::from_dir`].
    pub fn parse(path: &Path, text: &str) -> Result<Self, FormatsError> {
        let json: Value = json::parse(path, text)?;
        let keys = Keys::new(path, &json)?;
        let string = |key: &str, default: &str| Ok(keys.string(key)?.unwrap_or(default).to_string());
        let (unsupported, unknown) = leftovers(&keys);
        let order: PatternOrder = serde_json::from_str(text).unwrap_or_default();
        Ok(AdapterConfig {
            peft_type: string("peft_type", "LORA")?,
            r: keys.size("r", 8, LARGEST_RANK)?,
            lora_alpha: keys.maybe_number("lora_alpha")?.unwrap_or(8.0),
            lora_dropout: keys.probability("lora_dropout", 0.0)?,
            target_modules: target_modules(&keys)?,
            ensure_weight_tying: keys.flag("ensure_weight_tying", false)?,
            bias: string("bias", "none")?,
            fan_in_fan_out: keys.flag("fan_in_fan_out", false)?,
            use_rslora: keys.flag("use_rslora", false)?,
            use_dora: keys.flag("use_dora", false)?,
            init_lora_weights: match keys.value("init_lora_weights") {
                Some(Value::String(method)) => Some(method.clone()),
                _ => None,
            },
            rank_pattern: rank_pattern(&keys, &order.rank_pattern)?,
            alpha_pattern: alpha_pattern(&keys, &order.alpha_pattern)?,
            modules_to_save: keys.strings("modules_to_save")?,
            trainable_token_indices: token_indices(&keys)?,
            exclude_modules: modules(&keys, "exclude_modules")?,
            layers_to_transform: layers(&keys)?,
            layers_pattern: layers_pattern(&keys)?,
            base_model_name_or_path: keys.string("base_model_name_or_path")?.map(str::to_string),
            revision: keys.string("revision")?.map(str::to_string),
            unsupported,
            unknown,
        })
    }

    /// Writes `adapter_config.json` into a folder, as PEFT does: two spaces, sorted keys.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), FormatsError> {
        let value = |modules: &TargetModules| match modules {
            TargetModules::Names(names) => Value::from(names.clone()),
            TargetModules::Pattern(pattern) => Value::from(pattern.clone()),
        };
        let patterns = (!self.layers_pattern.is_empty()).then_some(&self.layers_pattern);
        let saved = (!self.modules_to_save.is_empty()).then_some(&self.modules_to_save);
        let ranks: Map<String, Value> =
            self.rank_pattern.iter().map(|(key, rank)| (key.clone(), Value::from(*rank))).collect();
        let alphas: Map<String, Value> =
            self.alpha_pattern.iter().map(|(key, alpha)| (key.clone(), number(*alpha))).collect();
        // Named in the order of the alphabet, and serde_json's map keeps its keys sorted.
        let mut json = serde_json::json!({
            "alpha_pattern": alphas,
            "base_model_name_or_path": self.base_model_name_or_path,
            "bias": self.bias,
            "exclude_modules": self.exclude_modules.as_ref().map(value),
            "fan_in_fan_out": self.fan_in_fan_out,
            "inference_mode": true,
            "init_lora_weights": self.init_lora_weights.clone().map_or(Value::Bool(true), Value::String),
            "layers_pattern": patterns,
            "layers_to_transform": self.layers_to_transform,
            "lora_alpha": number(self.lora_alpha),
            "lora_dropout": self.lora_dropout,
            "modules_to_save": saved,
            "peft_type": self.peft_type,
            "r": self.r,
            "rank_pattern": ranks,
            "revision": self.revision,
            "target_modules": value(&self.target_modules),
            "task_type": "CAUSAL_LM",
            "use_dora": self.use_dora,
            "use_rslora": self.use_rslora,
        });
        match &self.trainable_token_indices {
            None => {}
            Some(TokenIndices::Embedding(tokens)) => json["trainable_token_indices"] = tokens.clone().into(),
            Some(TokenIndices::Modules(modules)) => {
                let modules = modules.iter().map(|(name, tokens)| (name.clone(), Value::from(tokens.clone())));
                json["trainable_token_indices"] = modules.collect::<Map<String, Value>>().into();
            }
        }
        if self.ensure_weight_tying {
            json["ensure_weight_tying"] = true.into();
        }
        write_atomic(&folder.join(FILE), format!("{json:#}\n").as_bytes())
    }
}

/// A whole number as an integer, as PEFT writes alpha.
fn number(x: f64) -> Value {
    if x.fract() == 0.0 && x.abs() < 1e15 { Value::from(x as i64) } else { Value::from(x) }
}

fn target_modules(keys: &Keys<'_>) -> Result<TargetModules, FormatsError> {
    let key = "target_modules";
    let state = if keys.value(key).is_some() { "empty" } else { "missing" };
    modules(keys, key)?.ok_or_else(|| keys.error(key, format!("is {state}; it names the adapted modules")))
}

/// A pattern, or a list of names; none if there is nothing in it.
fn modules(keys: &Keys<'_>, key: &str) -> Result<Option<TargetModules>, FormatsError> {
    match keys.value(key) {
        None => Ok(None),
        Some(Value::String(pattern)) => {
            Ok(Some(pattern).filter(|pattern| !pattern.is_empty()).cloned().map(TargetModules::Pattern))
        }
        Some(_) => Ok(Some(keys.strings(key)?).filter(|names| !names.is_empty()).map(TargetModules::Names)),
    }
}

/// Tokens of the embedding, or of modules by name; none if there is nothing in it.
fn token_indices(keys: &Keys<'_>) -> Result<Option<TokenIndices>, FormatsError> {
    let key = "trainable_token_indices";
    let problem = || keys.error(key, "must be a list of token ids, or an object of such lists by module");
    let list = |value: &Value| -> Option<Vec<usize>> {
        let number = |id: &Value| id.as_u64().and_then(|id| usize::try_from(id).ok());
        value.as_array()?.iter().map(number).collect()
    };
    match keys.value(key) {
        None => Ok(None),
        Some(Value::Object(modules)) => {
            let of = |(name, value): (&String, &Value)| Some((name.clone(), list(value)?));
            let modules: Vec<_> = modules.iter().map(of).collect::<Option<_>>().ok_or_else(problem)?;
            let modules: Vec<_> = modules.into_iter().filter(|(_, tokens)| !tokens.is_empty()).collect();
            Ok(Some(modules).filter(|modules| !modules.is_empty()).map(TokenIndices::Modules))
        }
        Some(value) => {
            let tokens = list(value).ok_or_else(problem)?;
            Ok(Some(tokens).filter(|tokens| !tokens.is_empty()).map(TokenIndices::Embedding))
        }
    }
}

/// A layer, or a list of them; none if there is nothing in it.
fn layers(keys: &Keys<'_>) -> Result<Option<Vec<usize>>, FormatsError> {
    let key = "layers_to_transform";
    let number = |value: &Value| value.as_u64().and_then(|layer| usize::try_from(layer).ok());
    let layers = match keys.value(key) {
        None => return Ok(None),
        Some(Value::Array(list)) => list.iter().map(number).collect(),
        Some(value) => number(value).map(|layer| vec![layer]),
    };
    match layers {
        None => Err(keys.error(key, "must be the number of a layer, from 0 on, or a list of such")),
        Some(layers) => Ok(Some(layers).filter(|layers| !layers.is_empty())),
    }
}

fn layers_pattern(keys: &Keys<'_>) -> Result<Vec<String>, FormatsError> {
    let key = "layers_pattern";
    let patterns = match keys.value(key) {
        Some(Value::String(pattern)) => vec![pattern.clone()],
        _ => keys.strings(key)?,
    };
    let is_name = |pattern: &String| pattern.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '.');
    match patterns.iter().find(|pattern| !is_name(pattern)) {
        Some(pattern) => Err(keys.error(key, format!("is {:?}; only plain names are supported", excerpt(pattern)))),
        None => Ok(patterns.into_iter().filter(|pattern| !pattern.is_empty()).collect()),
    }
}

/// The keys of the patterns in the order of the file, which decides where more than one matches a module.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct PatternOrder {
    #[serde(deserialize_with = "keys_in_order")]
    rank_pattern: Vec<String>,
    #[serde(deserialize_with = "keys_in_order")]
    alpha_pattern: Vec<String>,
}

/// The keys of an object as they stand in the file, of which nothing else is known to be well formed.
fn keys_in_order<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    struct InOrder;
    impl<'de> Visitor<'de> for InOrder {
        type Value = Vec<String>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Vec<String>, M::Error> {
            let mut keys = Vec::new();
            while let Some((key, _)) = map.next_entry::<String, IgnoredAny>()? {
                keys.push(key);
            }
            Ok(keys)
        }

        fn visit_unit<E>(self) -> Result<Vec<String>, E> {
            Ok(Vec::new())
        }
    }
    deserializer.deserialize_any(InOrder)
}

/// Each key of a pattern with what `value` reads there, in the order of the file.
fn pattern<T>(
    keys: &Keys<'_>,
    key: &str,
    order: &[String],
    value: impl Fn(&Keys<'_>, &str) -> Result<Option<T>, FormatsError>,
) -> Result<Vec<(String, T)>, FormatsError> {
    let Some(map) = keys.object(key)? else { return Ok(Vec::new()) };
    let place = |name: &str| order.iter().position(|other| other == name).unwrap_or(usize::MAX);
    let mut entries = Vec::new();
    for (name, _) in map.entries() {
        match value(&map, name)? {
            Some(value) => entries.push((name.to_string(), value)),
            None => return Err(map.error(name, "is null; it must be a number")),
        }
    }
    entries.sort_by_key(|(name, _)| place(name));
    Ok(entries)
}

fn rank_pattern(keys: &Keys<'_>, order: &[String]) -> Result<Vec<(String, usize)>, FormatsError> {
    pattern(keys, "rank_pattern", order, |map, name| map.maybe_size(name, LARGEST_RANK))
}

fn alpha_pattern(keys: &Keys<'_>, order: &[String]) -> Result<Vec<(String, f64)>, FormatsError> {
    pattern(keys, "alpha_pattern", order, |map, name| map.maybe_number(name))
}

/// Keys that become fields.
const CARRIED: [&str; 19] = [
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "trainable_token_indices",
    "use_dora",
    "use_rslora",
];

/// Keys that say how an adapter was made or is run, not what it computes. `init_lora_weights` is not among them: some of
/// its methods (PiSSA, OLoRA, CorDA) change the base weights as well.
const SILENT: [&str; 13] = [
    "auto_mapping",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_config",
    "megatron_core",
    "peft_version",
    "qalora_group_size",
    "runtime_config",
    "task_type",
    "velora_config",
];

/// PEFT's keys that change what an adapter computes unless they are null, false or empty.
const CHANGING: [&str; 10] = [
    "alora_invocation_tokens",
    "arrow_config",
    "init_lora_weights",
    "kasa_config",
    "layer_replication",
    "lora_bias",
    "monteclora_config",
    "target_parameters",
    "use_bdlora",
    "use_qalora",
];

/// Of the keys that no field carries: those that change what is computed, and those that PEFT does not know.
fn leftovers(keys: &Keys<'_>) -> (Vec<String>, Vec<String>) {
    let (mut unsupported, mut unknown) = (Vec::new(), Vec::new());
    for (key, value) in keys.entries() {
        if CHANGING.contains(&key) {
            if !leaves_plain(key, value) {
                unsupported.push(key.to_string());
            }
        } else if !CARRIED.contains(&key) && !SILENT.contains(&key) {
            unknown.push(excerpt(key));
        }
    }
    (unsupported, unknown)
}

/// Whether a key's value leaves an adapter plain LoRA.
fn leaves_plain(key: &str, value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Bool(true) => key == "init_lora_weights",
        Value::String(method) => key == "init_lora_weights" && ["gaussian", "eva", "orthogonal"].contains(&&**method),
        Value::Object(map) => map.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Number(_) => false,
    }
}
