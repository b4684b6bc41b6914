//! GGUF files of models and adapters: those that llama.cpp was seen to load, byte for byte, and what they compute there.
//!
//! `fixtures/gguf/expected.jsonl` is what `fixtures/exported.py` recorded with llama.cpp: hashes of the files that it loaded, its
//! logits behind a prompt, its greedy tokens, which are also transformers'.

mod written;

use remat_formats::{GgufElement, GgufHeader, GgufValue, sha256_file};
use remat_model::{GgufOptions, GgufReport, Model, ModelError};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use written::{Written, distance, logits, record, text};

/// Of llama.cpp's logits to ours, which are those of the weights before they were rounded.
const LOGITS: f64 = 1e-2;
/// As the script allows Q8_0, whose products round activations, too.
const LOGITS_Q8: f64 = 5e-2;

fn open(folder: &Path) -> Model {
    Model::open(folder).unwrap_or_else(|error| panic!("{error}"))
}

fn element(name: &str) -> GgufElement {
    match name {
        "f32" => GgufElement::F32,
        "f16" => GgufElement::F16,
        "bf16" => GgufElement::Bf16,
        "q8_0" => GgufElement::Q8_0,
        other => panic!("no type {other}"),
    }
}

/// Writes what a case asks for.
fn export(case: &Value, folders: &Written, name: &str) -> Result<(PathBuf, GgufReport), ModelError> {
    let (model, out) = (open(&folders.model()), folders.path(name));
    let options = GgufOptions { element: element(case["type"].as_str().unwrap_or("f16")), replace: false };
    let report = match folders.adapter() {
        Some(adapter) if case["merge"] != true => model.export_adapter_gguf(&adapter, &options, &out)?,
        adapter => model.export_gguf(adapter.as_deref(), &options, &out)?,
    };
    Ok((out, report))
}

fn refused(case: &Value) -> String {
    let folders = Written::new(case);
    let error = export(case, &folders, "out.gguf").map(|_| ()).expect_err("refused").to_string();
    assert!(!folders.path("out.gguf").exists(), "nothing is left");
    error
        .replace(&folders.model().display().to_string(), "model")
        .replace(&folders.path("adapter").display().to_string(), "adapter")
}

#[test]
fn files_are_those_that_llama_cpp_loaded() {
    let cases = record("gguf/expected.jsonl");
    for case in &cases {
        let folders = Written::new(case);
        let (out, report) = export(case, &folders, "out.gguf").unwrap_or_else(|error| panic!("{error}: {case}"));
        let name = text(case, "name");
        let bytes = std::fs::metadata(&out).expect("written").len();
        assert_eq!((bytes, Some(bytes)), (report.file_bytes, case["bytes"].as_u64()), "{name}");
        assert_eq!(sha256_file(&out).expect("read"), text(case, "sha256"), "{name}: run fixtures/exported.py again");
        let header = GgufHeader::read(&out).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(header.tensors.len(), report.tensors);
    }
    assert!(cases.len() > 25);
}

#[test]
fn llama_cpp_computes_of_them_what_is_computed_here() {
    for case in &record("gguf/expected.jsonl") {
        let folders = Written::new(case);
        let (model, adapter) = (open(&folders.model()), folders.adapter());
        let numbers = |key: &str| -> Vec<f64> {
            case[key].as_array().into_iter().flatten().map(|x| x.as_f64().expect("a number")).collect()
        };
        let mut ids: Vec<i32> = numbers("ids").into_iter().map(|id| id as i32).collect();
        let vocab = model.config().vocab_size;
        let theirs: Vec<f32> = numbers("logits").into_iter().map(|x| x as f32).collect();
        let ours = logits(&model, adapter.as_deref(), &ids);
        let apart = distance(&theirs, &ours[ours.len() - vocab..]);
        let most = if case["type"] == "q8_0" { LOGITS_Q8 } else { LOGITS };
        assert!(apart < most, "{}: {apart}", text(case, "name"));
        // Causal attention: one pass over all tokens says what each was followed by.
        let prompt = ids.len();
        let tokens: Vec<i32> = numbers("tokens").into_iter().map(|id| id as i32).collect();
        ids.extend(&tokens);
        let ours = logits(&model, adapter.as_deref(), &ids);
        for (index, &token) in tokens.iter().enumerate() {
            let row = &ours[(prompt + index - 1) * vocab..][..vocab];
            let best = (0..vocab).max_by(|&a, &b| row[a].total_cmp(&row[b])).expect("a vocabulary");
            assert_eq!(best as i32, token, "{}: token {index}", text(case, "name"));
        }
    }
}

#[test]
fn what_llama_cpp_has_no_place_for_is_refused_by_name() {
    let said = |case: &str, config: Value| refused(&json!({ "case": case, "config": config }));
    let rope = |parameters: Value| json!({ "rope_parameters": parameters });
    let cases = [
        (said("smollm3", json!({})), "no_rope_layers: layer 1 is not rotated"),
        (said("gpt2", json!({ "activation_function": "gelu" })), "GELU by the error function"),
        (
            said(
                "qwen2",
                rope(json!({ "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0 })),
            ),
            "rope_type \"llama3\"",
        ),
        (
            said("qwen2", rope(json!({ "rope_type": "yarn", "factor": 4.0, "attention_factor": 2.0 }))),
            "attention_factor = 2 of yarn",
        ),
        (said("qwen2", rope(json!({ "rope_type": "yarn", "factor": 4.0, "truncate": false }))), "truncate = false"),
        (
            said(
                "qwen2",
                rope(
                    json!({ "rope_type": "longrope", "short_factor": [1, 1, 1, 1, 1, 1], "long_factor": [2, 2, 2, 2, 2, 2] }),
                ),
            ),
            "rope_type \"longrope\"",
        ),
    ];
    for (found, expected) in cases {
        assert!(found.starts_with("model: cannot be exported to GGUF: ") && found.contains(expected), "{found}");
        assert!(found.ends_with("; remat merge writes a folder that transformers loads"), "{found}");
    }
    let zero = refused(&json!({ "case": "qwen2", "adapter": "adapter", "settings": { "lora_alpha": 0 } }));
    assert!(zero.starts_with("adapter/adapter_config.json: lora_alpha is 0"), "{zero}");
    let dora = json!({ "case": "llama-gqa-tied", "adapter": "../../methods/llama-gqa-tied/dora/adapter" });
    let dora = refused(&dora);
    assert!(dora.starts_with("adapter: is a DoRA adapter") && dora.contains("remat merge"), "{dora}");
}

#[test]
fn tokenizers_that_llama_cpp_cannot_be_told_of_are_refused_by_name() {
    let said = |tokenizer: &str| {
        refused(&json!({
            "case": "llama-gqa-tied", "edit": "more_rows", "config": { "vocab_size": 600 },
            "tokenizer": format!("tokenizers/{tokenizer}.tokenizer.json"),
        }))
    };
    // Its merges were trained by words, so that some pairs that make a token are none.
    assert!(said("metaspace_legacy").contains("lacks the merge of "), "{}", said("metaspace_legacy"));
    assert!(said("unigram").contains("\"model.type\" is \"Unigram\""), "{}", said("unigram"));
    assert!(said("nfkc_lower").contains("its normalizer has a NFKC step"), "{}", said("nfkc_lower"));
    let few = refused(&json!({ "case": "llama-gqa-tied", "tokenizer": "tokenizers/byte_level.tokenizer.json" }));
    assert!(few.contains("has ids up to 377, and the model 160 of them"), "{few}");
}

/// A window that llama.cpp does not have bounds the context that the file claims; so does a scaling that begins behind it.
#[test]
fn a_context_within_which_all_is_the_same_is_claimed_and_told() {
    let context = |case: Value| {
        let folders = Written::new(&case);
        let (out, report) = export(&case, &folders, "out.gguf").unwrap_or_else(|error| panic!("{error}"));
        let header = GgufHeader::read(&out).expect("a header");
        let entry = header.entries.iter().find(|(key, _)| key.ends_with(".context_length")).expect("there");
        let GgufValue::Integer(tokens) = *entry.1 else { panic!("{entry:?}") };
        (tokens, report.notes)
    };
    let (tokens, notes) = context(json!({ "case": "mistral" }));
    assert!(
        tokens == 8 && notes[0].contains("no sliding window for mistral: the file claims a context of 8"),
        "{notes:?}"
    );
    let dynamic = json!({ "rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0 });
    let (tokens, notes) = context(json!({ "case": "llama-gqa-tied", "config": { "rope_parameters": dynamic } }));
    assert!(tokens == 128 && notes[0].contains("no dynamic scaling"), "{notes:?}");
    assert_eq!(context(json!({ "case": "llama-gqa-tied" })), (128, Vec::new()));
}

/// Where the head must be in the file, a tied one is there twice.
#[test]
fn a_tied_head_is_left_out_or_repeated_as_llama_cpp_reads_it() {
    let has_head = |case: Value| {
        let folders = Written::new(&case);
        let (out, _) = export(&case, &folders, "out.gguf").unwrap_or_else(|error| panic!("{error}"));
        GgufHeader::read(&out).expect("a header").tensors.iter().any(|tensor| tensor.name == "output.weight")
    };
    assert!(!has_head(json!({ "case": "llama-gqa-tied" })));
    assert!(has_head(json!({ "case": "qwen3" })), "not tied");
    let tied = json!({ "case": "olmo2", "config": { "tie_word_embeddings": true }, "edit": "head_off" });
    assert!(has_head(tied), "llama.cpp's code for OLMo 2 does without none");
}

#[test]
fn rows_that_fill_no_blocks_are_f16_and_counted() {
    let case = json!({ "case": "qwen2", "type": "q8_0" });
    let folders = Written::new(&case);
    let (out, report) = export(&case, &folders, "out.gguf").unwrap_or_else(|error| panic!("{error}"));
    let header = GgufHeader::read(&out).expect("a header");
    let stored = |kind: &str| header.tensors.iter().filter(|tensor| tensor.stored == kind).count();
    // 48 and 72 are no multiples of 32.
    assert_eq!((stored("Q8_0"), stored("F16")), (0, report.fallen_back));
    assert!(report.fallen_back > 10);
    let again = export(&case, &folders, "out.gguf").expect_err("there").to_string();
    assert!(again.contains("exists; choose another file, or replace it with `force`"), "{again}");
}
