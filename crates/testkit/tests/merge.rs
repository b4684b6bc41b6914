//! Merged model folders: those that transformers was seen to load as base plus adapter, byte for byte, and what they compute.
//!
//! `fixtures/merged/expected.jsonl` is what `fixtures/merged.py` recorded with transformers and peft: hashes of the files
//! whose logits are those of base plus adapter to 1e-5 in f32.

mod written;

use remat_formats::sha256_file;
use remat_model::{MergeOptions, MergeReport, Model, ModelError};
use remat_tensor::DType;
use serde_json::{Value, json};
use std::path::Path;
use written::{Written, distance, logits, record, tensors, text};

const OPTIONS: MergeOptions = MergeOptions { dtype: None, shard_bytes: 5_000_000_000, replace: false };
const IDS: [i32; 12] = [2, 7, 9, 30, 4, 11, 80, 5, 44, 3, 17, 100];

fn open(folder: &Path) -> Model {
    Model::open(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn dtype(name: &str) -> DType {
    match name {
        "f32" => DType::F32,
        "bf16" => DType::BF16,
        "f16" => DType::F16,
        other => panic!("no dtype {other}"),
    }
}

fn merge(case: &Value, folders: &Written, out: &str) -> Result<MergeReport, ModelError> {
    let options = MergeOptions {
        dtype: case["dtype"].as_str().map(dtype),
        shard_bytes: case["shard_size"].as_str().map_or(OPTIONS.shard_bytes, |size| size.parse().expect("a size")),
        ..OPTIONS
    };
    open(&folders.model()).write_merged(folders.adapter().as_deref(), &options, &folders.path(out))
}

#[test]
fn files_are_those_that_transformers_loaded_as_base_plus_adapter() {
    let cases = record("merged/expected.jsonl");
    for case in &cases {
        let (folders, name) = (Written::new(case), text(case, "name"));
        let report = merge(case, &folders, "merged").unwrap_or_else(|error| panic!("{name}: {error}"));
        let files = case["sha256"].as_object().expect("files");
        for (file, hash) in files {
            let found = sha256_file(&folders.path("merged").join(file)).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!(json!(found), *hash, "{name}: {file}: run fixtures/merged.py again");
        }
        let weights = files.keys().filter(|file| file.ends_with(".safetensors")).count();
        assert_eq!(report.files, weights, "{name}");
        // And what is computed here of the folder is what base and adapter compute apart.
        let merged = logits(&open(&folders.path("merged")), None, &IDS);
        let apart = distance(&merged, &logits(&open(&folders.model()), folders.adapter().as_deref(), &IDS));
        let most = if report.dtype == DType::F32 { 1e-5 } else { 5e-2 };
        assert!(apart < most, "{name}: {apart}");
        let exact = report.dtype == DType::F32;
        assert!(
            (report.rounding == 0.0) == exact && report.rounding < 5e-3 && report.change > 0.0,
            "{name}: {report:?}"
        );
    }
    assert!(cases.len() > 12);
}

/// A base in few bits is written as the numbers that its codes stand for: what is computed of it stays the same.
#[test]
fn a_quantised_base_is_dequantised_to_what_is_computed_of_it() {
    for (folder, case) in
        [("nf4", "llama-gqa-tied/nested"), ("nf4", "gpt2/nested"), ("int8", "llama-rope3-bias"), ("int8", "gpt2")]
    {
        let case = json!({ "folder": folder, "case": case, "dtype": "f32" });
        let folders = Written::new(&case);
        let report = merge(&case, &folders, "merged").unwrap_or_else(|error| panic!("{case}: {error}"));
        let (base, merged) = (open(&folders.model()), open(&folders.path("merged")));
        assert_eq!((report.dequantised, report.adapted), (base.linear_names().len(), 0), "{case}");
        assert!(merged.stored_quant().is_none());
        let apart = distance(&logits(&merged, None, &IDS), &logits(&base, None, &IDS));
        assert!(apart < 1e-5, "{case}: {apart}");
        let config = std::fs::read_to_string(folders.path("merged/config.json")).expect("written");
        let config: Value = serde_json::from_str(&config).expect("JSON");
        assert!(config.get("quantization_config").is_none(), "{config}");
        assert!(config["dtype"] == "float32" || config["torch_dtype"] == "float32", "{config}");
        // In 16 bits, the loss is measured.
        let narrow = merge(&json!({ "dtype": "bf16" }), &folders, "narrow").expect("merged");
        assert!(narrow.rounding > 1e-4 && narrow.rounding < 5e-3, "{narrow:?}");
    }
}

/// An adapter that was trained beside a base in few bits, folded into that base.
#[test]
fn an_adapter_on_a_quantised_base_is_folded_into_its_numbers() {
    let case = json!({ "folder": "nf4", "case": "llama-gqa-tied/nested", "dtype": "f32" });
    let folders = Written::new(&case);
    let parity = Written::new(&json!({ "case": "llama-gqa-tied", "adapter": "adapter" }));
    let adapter = parity.adapter().expect("made");
    let base = open(&folders.model());
    let options = MergeOptions { dtype: Some(DType::F32), ..OPTIONS };
    let report = base.write_merged(Some(&adapter), &options, &folders.path("merged")).expect("merged");
    assert_eq!((report.adapted, report.dequantised), (base.linear_names().len(), base.linear_names().len()));
    let merged = logits(&open(&folders.path("merged")), None, &IDS);
    let apart = distance(&merged, &logits(&base, Some(&adapter), &IDS));
    assert!(apart < 1e-5, "{apart}");
}

#[test]
fn shards_hold_each_tensor_once_and_are_no_larger_than_asked_for() {
    let case = json!({ "case": "llama-gqa-tied", "adapter": "adapter", "shard_size": "60000" });
    let folders = Written::new(&case);
    let report = merge(&case, &folders, "merged").expect("merged");
    let index = std::fs::read_to_string(folders.path("merged/model.safetensors.index.json")).expect("written");
    let index: Value = serde_json::from_str(&index).expect("JSON");
    let mut held = 0;
    for number in 1..=report.files {
        let name = format!("model-{number:05}-of-{:05}.safetensors", report.files);
        let shard = tensors(&folders.path("merged").join(&name));
        let bytes: usize = shard.values().map(|tensor| tensor.as_bytes().len()).sum();
        assert!(bytes <= 60000 || shard.len() == 1, "{name}: {bytes}");
        assert!(shard.keys().all(|tensor| index["weight_map"][tensor] == name), "{name}");
        held += bytes;
    }
    assert!(report.files > 3);
    assert_eq!((index["metadata"]["total_size"].as_u64(), report.bytes), (Some(held as u64), held as u64));
    let whole = merge(&json!({}), &folders, "whole").expect("merged");
    assert_eq!((whole.files, whole.bytes), (1, report.bytes));
    let tensors_of = tensors(&folders.path("whole/model.safetensors"));
    assert_eq!(tensors_of.len(), index["weight_map"].as_object().expect("a map").len());
}

/// What comes along: the base's files, or the adapter's own where it has some.
#[test]
fn tokenizer_template_and_generation_settings_come_along() {
    let case = json!({ "case": "llama-gqa-tied", "adapter": "adapter", "template": "of the base" });
    let folders = Written::new(&case);
    let read =
        |path: &str| std::fs::read_to_string(folders.path(path)).unwrap_or_else(|error| panic!("{path}: {error}"));
    merge(&case, &folders, "merged").expect("merged");
    for name in ["tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"] {
        assert_eq!(read(&format!("merged/{name}")), read(&format!("model/{name}")), "{name}");
    }
    let config: Value = serde_json::from_str(&read("merged/config.json")).expect("JSON");
    assert_eq!((&config["tie_word_embeddings"], &config["dtype"]), (&json!(true), &json!("float32")));
    std::fs::copy(folders.path("model/tokenizer.json"), folders.path("adapter/tokenizer.json")).expect("copied");
    std::fs::write(folders.path("adapter/chat_template.jinja"), "of the adapter").expect("written");
    merge(&case, &folders, "again").expect("merged");
    assert_eq!(read("again/chat_template.jinja"), "of the adapter");
    assert!(!folders.path("again/tokenizer_config.json").exists(), "the base's would not fit the adapter's");
    assert_eq!(read("again/generation_config.json"), read("model/generation_config.json"));
}

#[test]
fn numbers_that_the_dtype_cannot_hold_are_an_error_that_leaves_nothing() {
    let case = json!({ "case": "qwen2", "adapter": "adapter", "settings": { "lora_alpha": 1e9 }, "dtype": "f16" });
    let folders = Written::new(&case);
    let said = merge(&case, &folders, "merged").expect_err("too large").to_string();
    assert!(said.contains("which f16 cannot hold; write it in bf16 or f32"), "{said}");
    assert!(!folders.path("merged").exists());
}
