//! Adapters as PEFT writes them and as people's tools do: which modules they adapt, what is noted, what is refused.
//!
//! `fixtures/adapters/targets.json` holds what PEFT adapts for some settings, made by `fixtures/adapters/make.py`.

mod case;

use case::Case;
use remat_formats::{NamedTensor, SafetensorsFile, write_safetensors};
use remat_model::{AdapterSettings, BatchShape, Method, Model, ModelError};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn fixture(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(path)
}

/// An adapter's folder with these settings and no weights.
fn folder(settings: &Value) -> TempDir {
    let dir = tempfile::tempdir().expect("a folder");
    let mut config = settings.clone();
    config["peft_type"] = "LORA".into();
    std::fs::write(dir.path().join("adapter_config.json"), config.to_string()).expect("written");
    dir
}

fn read(model: &str, settings: &Value) -> (TempDir, Result<AdapterSettings, ModelError>) {
    let dir = folder(settings);
    let settings = Model::open(&fixture("parity").join(model)).expect("a model").adapter_settings(dir.path());
    (dir, settings)
}

/// Asserts how a complaint about the settings ends, and that it names their file first.
fn refused(settings: &Value, expected: &str) {
    let (dir, outcome) = read("llama-gqa-tied", settings);
    let error = outcome.expect_err(expected).to_string();
    let file = dir.path().join("adapter_config.json").display().to_string();
    assert_eq!(error, format!("{file}: {expected}"), "{settings}");
}

/// The modules that have an adapter under a method.
fn adapted(model: &Model, method: &Method) -> Vec<String> {
    let training = model.training(method, BatchShape { batch: 1, seq_len: 4 }).expect("a graph");
    let names = training.parameters.iter().filter_map(|p| p.name.strip_suffix(".lora_A.weight"));
    let mut names: Vec<String> = names.map(|name| name.replacen("base_model.model.", "", 1)).collect();
    names.sort();
    names
}

#[test]
fn the_modules_that_peft_adapts_are_adapted() {
    let record = std::fs::read_to_string(fixture("adapters/targets.json")).expect("the fixtures are committed");
    let record: Value = serde_json::from_str(&record).expect("JSON");
    let model = Model::open(&fixture("parity/llama-gqa-tied")).expect("a model");
    for entry in record.as_array().expect("a list") {
        let outcome = read("llama-gqa-tied", &entry["settings"]).1;
        let found = outcome.ok().map(|settings| adapted(&model, &Method::Lora(settings.config)));
        let expected: Option<Vec<String>> = serde_json::from_value(entry["adapted"].clone()).expect("names");
        assert_eq!(found, expected, "{}", entry["settings"]);
    }
}

#[test]
fn a_name_that_matches_nothing_is_noted_and_an_error_if_none_does() {
    let (dir, settings) = read("llama-gqa-tied", &json!({ "target_modules": ["q_proj", "c_attn", "Wqkv"], "x": 1 }));
    let notes = settings.expect("q_proj is there").notes;
    let file = dir.path().join("adapter_config.json").display().to_string();
    let available = "down_proj, embed_tokens, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj";
    let unknown = format!("{file}: keys that PEFT 0.21 does not know are ignored: x");
    let missing = format!("\"c_attn\", \"Wqkv\": no linear module of that name; this base model has {available}");
    assert_eq!(notes, [unknown, format!("{file}: target_modules {missing}")]);
    let none = format!("target_modules: matches no linear module; this base model has {available}");
    refused(&json!({ "target_modules": ["c_attn"] }), &none);
    refused(&json!({ "target_modules": "c_attn" }), &none);
    let excluded =
        format!("target_modules: matches no linear module that is not excluded; this base model has {available}");
    refused(&json!({ "target_modules": ["q_proj"], "exclude_modules": ["self_attn.q_proj"] }), &excluded);
}

#[test]
fn settings_that_cannot_be_read_are_refused_in_the_name_of_their_file() {
    let pattern = "target_modules \"(q_proj\": not a usable regular expression: ";
    let (_dir, outcome) = read("llama-gqa-tied", &json!({ "target_modules": "(q_proj" }));
    let error = outcome.expect_err("no pattern").to_string();
    assert!(error.contains("adapter_config.json: ") && error.contains(pattern), "{error}");
    // Fails only after it has tried all ways to cut the name.
    let slow = r"(?:(?:\w|\.)+)+(?=x)!";
    let (_dir, outcome) = read("llama-gqa-tied", &json!({ "target_modules": slow }));
    let error = outcome.expect_err("too slow").to_string();
    assert!(error.contains("takes more than 100000 steps back on \"model.layers.0."), "{error}");
    refused(
        &json!({ "target_modules": ".*q_proj", "layers_to_transform": 1 }),
        "layers_to_transform: PEFT allows it with names, and target_modules is \".*q_proj\"",
    );
}

#[test]
fn fan_in_fan_out_is_the_base_models_as_in_peft() {
    for (model, targets) in [("gpt2", "c_attn"), ("llama-gqa-tied", "q_proj")] {
        let is = model == "llama-gqa-tied";
        let settings = json!({ "target_modules": [targets], "fan_in_fan_out": is });
        let notes = read(model, &settings).1.expect("read").notes;
        assert!(notes.len() == 1 && notes[0].contains(&format!("fan_in_fan_out is {is}; ")), "{notes:?}");
    }
}

/// A copy of the adapter of `llama-gqa-tied` whose tensors have other names.
fn renamed(rename: &dyn Fn(&str) -> Vec<String>) -> TempDir {
    let (from, dir) = (fixture("parity/llama-gqa-tied/adapter"), tempfile::tempdir().expect("a folder"));
    std::fs::copy(from.join("adapter_config.json"), dir.path().join("adapter_config.json")).expect("copied");
    let file = SafetensorsFile::open(&from.join("adapter_model.safetensors")).expect("tensors");
    let read = |name: &str| file.read(name).expect("a tensor");
    let tensors: Vec<_> = file
        .names()
        .flat_map(|name| rename(name).into_iter().map(|new| (new, read(name))).collect::<Vec<_>>())
        .collect();
    let tensors: Vec<_> = tensors
        .iter()
        .map(|(name, tensor)| NamedTensor {
            name,
            dtype: tensor.dtype(),
            shape: tensor.shape(),
            bytes: tensor.as_bytes(),
        })
        .collect();
    write_safetensors(&dir.path().join("adapter_model.safetensors"), &tensors, &[("format", "pt")]).expect("written");
    dir
}

#[test]
fn tensors_with_the_adapters_own_name_in_theirs_are_read() {
    let case = Case::open("llama-gqa-tied");
    let dir = renamed(&|name| vec![name.replace(".weight", ".default.weight")]);
    let path = dir.path().to_str().expect("UTF-8");
    assert_eq!(case.logits(&case.adapter(path), path), case.logits(&case.lora(), "adapter"));
}

#[test]
fn a_tensor_that_is_there_twice_and_one_that_is_a_pickle_are_refused() {
    let case = Case::open("llama-gqa-tied");
    let load = |folder: &Path| {
        let path = folder.to_str().expect("UTF-8").to_string();
        case.try_load_adapter(&path).expect_err("an error").to_string()
    };
    let twice = renamed(&|name| vec![name.to_string(), name.replace(".weight", ".default.weight")]);
    let error = load(twice.path());
    assert!(error.contains(" are one tensor twice: keep one of them"), "{error}");
    let pickled = renamed(&|name| vec![name.to_string()]);
    let weights = |name: &str| pickled.path().join(name);
    std::fs::rename(weights("adapter_model.safetensors"), weights("adapter_model.bin")).expect("renamed");
    let error = load(pickled.path());
    let expected = format!("{}: is a pickle: ", weights("adapter_model.bin").display());
    assert!(
        error.starts_with(&expected) && error.contains("torch.load('adapter_model.bin', weights_only=True)"),
        "{error}"
    );
}
