//! The verb `inspect`: what a file or folder of weights holds, by its headers. The table goes to stdout, as does `--json`.
//!
//! Invariants: no tensor's data is read; what the files hold cannot steer the terminal.

use crate::exit::exit_code;
use crate::terminal::{self, visible};
use crate::units::{bytes, count, counted};
use remat_formats::{
    AdapterConfig, FormatsError, GgufHeader, GgufValue, ModelConfig, ModelFiles, SafetensorsFile, TargetModules,
    TensorInfo,
};
use remat_train::{ErrorKind, TrainError};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) const AFTER_HELP: &str = "\
Examples:
  remat inspect Llama-3.2-1B
  remat inspect run/adapter_model.safetensors
  remat inspect model.gguf --json

Reads headers and settings, no weights: safetensors, folders of a model or of a PEFT adapter, GGUF.";

/// Longest text of an entry that is shown; --json has all of it.
const MOST_SHOWN_CHARS: usize = 100;

/// Flags of `remat inspect`.
#[derive(Debug, clap::Args)]
pub(crate) struct InspectArgs {
    /// File of safetensors or GGUF, or folder of a model or adapter
    #[arg(value_name = "FILE|DIR")]
    path: PathBuf,

    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What was found.
#[derive(Debug, Default)]
struct Found {
    kind: &'static str,
    settings: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

#[derive(Debug)]
struct Tensor {
    name: String,
    dtype: String,
    shape: Vec<u64>,
    bytes: Option<u64>,
}

/// Runs the verb and returns the exit code.
pub(crate) fn run(arguments: &InspectArgs) -> u8 {
    match look(&arguments.path) {
        Ok(found) => {
            let text = if arguments.json { format!("{:#}", as_json(&found)) } else { as_text(&found) };
            // A closed pipe, as of `head`, is no error.
            terminal::say(&text);
            0
        }
        Err(error) => {
            terminal::error(&error.to_string());
            match TrainError::from(error).kind() {
                ErrorKind::Failed => exit_code(ErrorKind::Failed),
                _ => exit_code(ErrorKind::Input),
            }
        }
    }
}

fn look(path: &Path) -> Result<Found, FormatsError> {
    if path.is_dir() {
        return folder(path);
    }
    if GgufHeader::is_in(path) {
        return Ok(gguf(GgufHeader::read(path)?));
    }
    let file = SafetensorsFile::open(path)?;
    let tensors = file.names().filter_map(|name| Some(tensor(name, file.tensor_info(name)?))).collect();
    let settings = file.metadata().iter().map(|(key, text)| (key.clone(), Value::from(text.clone()))).collect();
    Ok(Found { kind: "safetensors", settings, tensors })
}

fn folder(path: &Path) -> Result<Found, FormatsError> {
    if path.join("adapter_config.json").symlink_metadata().is_ok() {
        return adapter(path);
    }
    let config = ModelConfig::from_dir(path)?;
    let files = ModelFiles::open(path)?;
    let ModelConfig { vocab_size, hidden_size, num_hidden_layers, num_attention_heads, .. } = &config;
    let settings = [
        ("family", Value::from(config.family)),
        ("layers", json!(num_hidden_layers)),
        ("hidden size", json!(hidden_size)),
        ("heads", json!(num_attention_heads)),
        ("key and value heads", json!(config.num_key_value_heads)),
        ("vocabulary", json!(vocab_size)),
        ("positions", json!(config.max_position_embeddings)),
        ("tied head", json!(config.tie_word_embeddings)),
        ("files", json!(files.held().count())),
    ];
    let settings = settings.map(|(key, value)| (key.to_string(), value)).into();
    let tensors = files.names().filter_map(|name| Some(tensor(name, files.tensor_info(name)?))).collect();
    Ok(Found { kind: "model", settings, tensors })
}

fn modules(modules: &TargetModules) -> String {
    match modules {
        TargetModules::Names(names) => names.join(", "),
        TargetModules::Pattern(pattern) => pattern.clone(),
    }
}

/// What differs by module; null if nothing does.
fn pattern<T: std::fmt::Display>(pattern: &[(String, T)]) -> Value {
    let entries: Vec<String> = pattern.iter().map(|(name, value)| format!("{name}={value}")).collect();
    json!(Some(entries.join(", ")).filter(|entries| !entries.is_empty()))
}

fn adapter(path: &Path) -> Result<Found, FormatsError> {
    let config = AdapterConfig::from_dir(path)?;
    let targets = modules(&config.target_modules);
    let mut settings = vec![
        ("method", json!(config.peft_type)),
        ("rank", json!(config.r)),
        ("alpha", json!(config.lora_alpha)),
        ("dropout", json!(config.lora_dropout)),
        ("rank-stabilised", json!(config.use_rslora)),
        ("DoRA", json!(config.use_dora)),
        ("targets", json!(targets)),
        ("rank of modules", pattern(&config.rank_pattern)),
        ("alpha of modules", pattern(&config.alpha_pattern)),
        ("without", json!(config.exclude_modules.as_ref().map(modules))),
        ("layers", json!(config.layers_to_transform)),
        ("biases", json!(Some(&config.bias).filter(|bias| *bias != "none"))),
        ("whole modules", json!(Some(config.modules_to_save.join(", ")).filter(|names| !names.is_empty()))),
        ("base model", json!(config.base_model_name_or_path)),
    ];
    settings.retain(|(name, value)| !value.is_null() || *name == "base model");
    settings.extend(config.unsupported.iter().map(|key| ("not supported here", json!(key))));
    settings.extend(config.unknown.iter().map(|key| ("not known", json!(key))));
    let file = SafetensorsFile::open(&path.join("adapter_model.safetensors"))?;
    let tensors = file.names().filter_map(|name| Some(tensor(name, file.tensor_info(name)?))).collect();
    let settings = settings.into_iter().map(|(key, value)| (key.to_string(), value)).collect();
    Ok(Found { kind: "adapter", settings, tensors })
}

fn tensor(name: &str, info: &TensorInfo) -> Tensor {
    let shape = info.shape.dims().iter().map(|&size| size as u64).collect();
    Tensor { name: name.to_string(), dtype: info.stored.clone(), shape, bytes: Some(info.bytes) }
}

fn gguf(header: GgufHeader) -> Found {
    let value = |value: GgufValue| match value {
        GgufValue::Integer(number) => i64::try_from(number).map_or_else(|_| json!(number.to_string()), Value::from),
        GgufValue::Real(number) => json!(number),
        GgufValue::Flag(flag) => json!(flag),
        GgufValue::Text(text) => json!(text),
        GgufValue::List(values) => json!(format!("{} values", count(values))),
    };
    let mut settings = vec![("version".to_string(), json!(header.version))];
    settings.extend(header.entries.into_iter().map(|(key, entry)| (key, value(entry))));
    let tensors = header.tensors.into_iter();
    let tensors = tensors.map(|tensor| Tensor {
        name: tensor.name,
        dtype: tensor.stored,
        shape: tensor.shape,
        bytes: tensor.bytes,
    });
    Found { kind: "gguf", settings, tensors: tensors.collect() }
}

impl Tensor {
    fn elements(&self) -> u128 {
        self.shape.iter().map(|&size| u128::from(size)).product()
    }
}

/// Tensors, elements and bytes by element type.
fn totals(tensors: &[Tensor]) -> BTreeMap<&str, (usize, u128, u64)> {
    let mut totals: BTreeMap<&str, (usize, u128, u64)> = BTreeMap::new();
    for tensor in tensors {
        let total = totals.entry(&tensor.dtype).or_default();
        let bytes = total.2.saturating_add(tensor.bytes.unwrap_or(0));
        *total = (total.0 + 1, total.1.saturating_add(tensor.elements()), bytes);
    }
    totals
}

fn as_text(found: &Found) -> String {
    let mut lines = vec![found.kind.to_string()];
    let shown = |value: &Value| {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_string);
        let cut: String = text.chars().take(MOST_SHOWN_CHARS).map(|c| if c == '\n' { ' ' } else { c }).collect();
        visible(&cut) + if text.chars().nth(MOST_SHOWN_CHARS).is_some() { "…" } else { "" }
    };
    lines.extend(found.settings.iter().map(|(key, value)| format!("  {}: {}", shown(&json!(key)), shown(value))));
    lines.push(String::new());
    let sizes = |shape: &[u64]| format!("[{}]", shape.iter().map(u64::to_string).collect::<Vec<_>>().join(", "));
    for tensor in &found.tensors {
        let size = tensor.bytes.map_or("unknown size".to_string(), bytes);
        let (name, dtype) = (shown(&json!(tensor.name)), shown(&json!(tensor.dtype)));
        lines.push(format!("  {name}  {dtype} {}  {size}", sizes(&tensor.shape)));
    }
    lines.push(String::new());
    for (dtype, (tensors, elements, size)) in totals(&found.tensors) {
        let of = counted(tensors, "tensor");
        lines.push(format!("{}: {of}, {} elements, {}", shown(&json!(dtype)), count(elements), bytes(size)));
    }
    lines.join("\n")
}

fn as_json(found: &Found) -> Value {
    let tensor = |tensor: &Tensor| {
        let Tensor { name, dtype, shape, bytes } = tensor;
        json!({"name": name, "dtype": dtype, "shape": shape, "bytes": bytes})
    };
    let total = |(dtype, (tensors, elements, bytes)): (&str, (usize, u128, u64))| {
        let elements = u64::try_from(elements).ok();
        (dtype.to_string(), json!({"tensors": tensors, "elements": elements, "bytes": bytes}))
    };
    json!({
        "schema": 1,
        "kind": found.kind,
        "settings": found.settings.iter().cloned().collect::<Map<String, Value>>(),
        "tensors": found.tensors.iter().map(tensor).collect::<Vec<_>>(),
        "totals": totals(&found.tensors).into_iter().map(total).collect::<Map<String, Value>>(),
    })
}
