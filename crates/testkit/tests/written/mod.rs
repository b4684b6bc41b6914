//! Folders as `fixtures/written.py` makes them: a parity case with its configuration, tokenizer and tensors edited; and what is
//! computed of them here.
#![allow(dead_code, reason = "each test binary uses its own part")]

use remat_formats::{NamedTensor, SafetensorsFile, write_safetensors};
use remat_model::{BatchShape, LoraConfig, Method, Model};
use remat_step::{DeviceOptions, LoadedForward};
use remat_tensor::{DType, HostTensor, Shape};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Rows of embedding and head after `more_rows`.
const MORE_ROWS: usize = 600;

pub struct Written {
    folder: tempfile::TempDir,
}

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// The lines of a record.
pub fn record(path: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(fixtures().join(path)).expect("the fixtures are committed");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

impl Written {
    /// The folders of a case: `model`, and `adapter` if it has one.
    pub fn new(case: &Value) -> Written {
        let written = Written { folder: tempfile::tempdir().expect("a folder") };
        let source = fixtures().join(case["folder"].as_str().unwrap_or("parity")).join(text(case, "case"));
        let model = written.model();
        std::fs::create_dir(&model).expect("made");
        write_changed(&source.join("config.json"), &case["config"], &model.join("config.json"));
        for entry in std::fs::read_dir(&source).expect("a folder").flatten() {
            let name = entry.file_name().into_string().expect("a name");
            let kept = ["tokenizer.json", "tokenizer_config.json", "generation_config.json"];
            if kept.contains(&name.as_str()) || name.starts_with("model") {
                std::fs::copy(entry.path(), model.join(name)).expect("copied");
            }
        }
        if let Some(edit) = case["edit"].as_str() {
            edit_tensors(&model.join("model.safetensors"), edit);
        }
        if let Some(file) = case["tokenizer"].as_str() {
            std::fs::copy(fixtures().join(file), model.join("tokenizer.json")).expect("copied");
            let special = r#"{"bos_token": "<s>", "eos_token": "</s>"}"#;
            std::fs::write(model.join("tokenizer_config.json"), special).expect("written");
        }
        if let Some(template) = case["template"].as_str() {
            std::fs::write(model.join("chat_template.jinja"), template).expect("written");
        }
        if let Some(adapter) = case["adapter"].as_str() {
            let (from, to) = (source.join(adapter), written.path("adapter"));
            std::fs::create_dir(&to).expect("made");
            write_changed(&from.join("adapter_config.json"), &case["settings"], &to.join("adapter_config.json"));
            let weights = "adapter_model.safetensors";
            std::fs::copy(from.join(weights), to.join(weights)).expect("copied");
        }
        written
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn model(&self) -> PathBuf {
        self.path("model")
    }

    pub fn adapter(&self) -> Option<PathBuf> {
        Some(self.path("adapter")).filter(|path| path.is_dir())
    }
}

pub fn text<'a>(case: &'a Value, key: &str) -> &'a str {
    case[key].as_str().unwrap_or_else(|| panic!("{key} of {case}"))
}

fn write_changed(from: &Path, changes: &Value, to: &Path) {
    let text = std::fs::read_to_string(from).expect("a fixture");
    let mut json: Value = serde_json::from_str(&text).expect("JSON");
    for (key, value) in changes.as_object().into_iter().flatten() {
        json[key] = value.clone();
    }
    std::fs::write(to, json.to_string()).expect("written");
}

/// The tensors of a file.
pub fn tensors(file: &Path) -> BTreeMap<String, HostTensor> {
    let file = SafetensorsFile::open(file).unwrap_or_else(|error| panic!("{error}"));
    file.names().map(|name| (name.to_string(), file.read(name).expect("read"))).collect()
}

fn edit_tensors(path: &Path, edit: &str) {
    let mut edited = tensors(path);
    match edit {
        "fourth_layer" => {
            let first: Vec<_> = edited.iter().filter(|(name, _)| name.contains(".layers.0.")).collect();
            let again: Vec<_> =
                first.into_iter().map(|(name, t)| (name.replace(".layers.0.", ".layers.3."), t.clone())).collect();
            edited.extend(again);
        }
        "second_experts" => {
            let first: Vec<_> = edited.iter().filter(|(name, _)| name.contains(".layers.0.mlp.")).collect();
            let again: Vec<_> =
                first.into_iter().map(|(name, t)| (name.replace(".layers.0.", ".layers.1."), t.clone())).collect();
            edited.retain(|name, _| !name.contains(".layers.1.mlp."));
            edited.extend(again);
        }
        "more_rows" => {
            let is_it =
                |name: &str| ["embed_tokens.weight", "wte.weight", "lm_head.weight"].iter().any(|e| name.ends_with(e));
            for (_, tensor) in edited.iter_mut().filter(|(name, _)| is_it(name)) {
                *tensor = tiled(tensor);
            }
        }
        "head_off" => drop(edited.remove("lm_head.weight")),
        other => panic!("no edit {other}"),
    }
    let shapes: Vec<Shape> = edited.values().map(|tensor| tensor.shape().clone()).collect();
    let named: Vec<NamedTensor<'_>> = edited
        .iter()
        .zip(&shapes)
        .map(|((name, tensor), shape)| NamedTensor { name, dtype: tensor.dtype(), shape, bytes: tensor.as_bytes() })
        .collect();
    write_safetensors(path, &named, &[("format", "pt")]).expect("written");
}

/// The rows again and again, each a little larger than the one it repeats, computed in f32 as PyTorch does.
fn tiled(tensor: &HostTensor) -> HostTensor {
    assert_eq!(tensor.dtype(), DType::F32, "only such a case is edited");
    let (rows, width) = (tensor.shape()[0], tensor.shape()[1]);
    let values = tensor.as_f32().expect("f32");
    let row = |i: usize| {
        let factor = (1.0 + 0.001 * (i / rows) as f64) as f32;
        values[i % rows * width..][..width].iter().map(move |x| x * factor)
    };
    HostTensor::from_f32([MORE_ROWS, width], (0..MORE_ROWS).flat_map(row).collect())
}

/// The logits [T, V] of a model, with an adapter if one is given, on one text.
pub fn logits(model: &Model, adapter: Option<&Path>, ids: &[i32]) -> Vec<f32> {
    let shape = BatchShape { batch: 1, seq_len: ids.len() };
    let method = match adapter {
        Some(folder) => Method::Lora(model.adapter_settings(folder).expect("an adapter").config),
        // Adapters that are not loaded are zero; a base in few bits cannot be trained whole.
        None if model.stored_quant().is_some() => Method::Lora(LoraConfig::default()),
        None => Method::Full,
    };
    let graph = model.inference(&method, shape).expect("a graph").graph;
    let options = DeviceOptions::cpu(1);
    let plan = LoadedForward::plan(graph.clone(), &options.profile()).expect("a plan");
    let mut loaded = LoadedForward::load(vec![plan], options).expect("loads");
    model.load_weights(&graph, loaded.device_mut()).expect("weights");
    if let Some(folder) = adapter {
        model.load_adapter_of(folder, &graph, loaded.device_mut()).expect("the adapter fits");
    }
    let positions: Vec<i32> = (0..ids.len() as i32).collect();
    let mut loaded = loaded.forwards();
    for (name, numbers) in [("ids", ids), ("positions", &positions), ("segment_start", &vec![0; ids.len()])] {
        let input = loaded.input(name).expect("an input");
        loaded.write(input, numbers).expect("written");
    }
    loaded.run(0).expect("runs");
    let mut logits = vec![0.0; ids.len() * model.config().vocab_size];
    loaded.read_output(0, "logits", &mut logits).expect("an output");
    logits
}

/// |a − b| / |b| in the Euclidean norm.
pub fn distance(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len(), "sizes differ");
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let apart = norm(&mut a.iter().zip(b).map(|(&x, &y)| f64::from(x) - f64::from(y)));
    apart / norm(&mut b.iter().map(|&y| f64::from(y))).max(1e-30)
}
