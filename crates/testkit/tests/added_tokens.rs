//! Adapters that were trained with more tokens: what transformers and peft compute with them (`fixtures/added_tokens.py`), the rows
//! that new tokens start as, and models that are merged or trained whole with them.

mod written;

use remat_formats::SafetensorsFile;
use remat_model::{MergeOptions, Model};
use std::path::{Path, PathBuf};
use written::{distance, fixtures, logits, tensors};

const CASES: [&str; 2] = ["llama-gqa-tied", "mistral"];
const MERGE: MergeOptions = MergeOptions { dtype: None, shard_bytes: 5_000_000_000, replace: false };

fn open(case: &str) -> Model {
    Model::open(&fixtures().join("parity").join(case)).expect("a model")
}

fn adapter(case: &str) -> PathBuf {
    fixtures().join("added_tokens").join(case)
}

/// Ids and logits that peft computed of them.
fn reference(case: &str) -> (Vec<i32>, Vec<f32>) {
    let file = SafetensorsFile::open(&adapter(case).join("logits.safetensors")).expect("the fixtures are committed");
    let numbers = |name: &str| file.read(name).expect("recorded").to_f64();
    (numbers("ids").iter().map(|&id| id as i32).collect(), numbers("logits").iter().map(|&x| x as f32).collect())
}

#[test]
fn peft_computes_our_logits_of_an_adapter_with_new_tokens() {
    for case in CASES {
        let (ids, expected) = reference(case);
        let model = open(case).with_tokens_of(&adapter(case)).expect("its tokenizer");
        assert_eq!(expected.len(), ids.len() * model.config().vocab_size, "{case}");
        let apart = distance(&logits(&model, Some(&adapter(case)), &ids), &expected);
        assert!(apart < 1e-5, "{case}: {apart:e}");
        let error = open(case).adapter_settings(&adapter(case)).map(|_| ());
        let ours = logits_of_smaller(case, &ids);
        assert!(ours.is_err() || error.is_err(), "{case}: without the tokens the rows are not there");
    }
}

/// What the base alone makes of an adapter that needs more rows.
fn logits_of_smaller(case: &str, ids: &[i32]) -> Result<(), remat_model::ModelError> {
    let model = open(case);
    let lora = model.adapter_settings(&adapter(case))?.config;
    let shape = remat_model::BatchShape { batch: 1, seq_len: ids.len() };
    model.inference(&remat_model::Method::Lora(lora), shape).map(|_| ())
}

#[test]
fn new_rows_are_the_mean_of_the_others_in_either_precision() {
    for case in CASES {
        let model = open(case).with_added_tokens(&fixtures().join("added_tokens/tokens.txt")).expect("tokens");
        let before = open(case).config().vocab_size;
        let vocab = model.config().vocab_size;
        assert!(vocab > before, "{case}");
        let out = tempfile::tempdir().expect("a folder");
        model.write_merged(None, &MERGE, &out.path().join("merged")).expect("written");
        let written = tensors(&out.path().join("merged/model.safetensors"));
        let stored = tensors(&fixtures().join("parity").join(case).join("model.safetensors"));
        let width = model.config().hidden_size;
        for name in ["model.embed_tokens.weight", "lm_head.weight"] {
            let Some(rows) = written.get(name) else { continue };
            let (rows, old) = (rows.to_f64(), stored[name].to_f64());
            assert_eq!(rows[..old.len()], old[..], "{case}: rows that were there");
            assert_eq!(rows.len(), vocab * width);
            for column in 0..width {
                let mean = (0..before).map(|row| old[row * width + column]).sum::<f64>() / before as f64;
                for row in before..vocab {
                    assert!((rows[row * width + column] - mean).abs() < 1e-6, "{case}: {name} [{row}, {column}]");
                }
            }
        }
        // The folder is a model by itself, with the new tokenizer and as many rows.
        let merged = Model::open(&out.path().join("merged")).expect("a model");
        assert_eq!(merged.config().vocab_size, vocab);
        let tokenizer = std::fs::read(out.path().join("merged/tokenizer.json")).expect("a tokenizer");
        assert_eq!(Some(tokenizer.as_slice()), model.tokenizer_json(), "{case}");
        let ids = [1, 5, vocab as i32 - 1, 7];
        let whole = logits(&merged, None, &ids);
        assert_eq!(logits(&model, None, &ids), whole, "{case}");
        let bf16 = logits(&model.in_precision(remat_model::Precision::Bf16), None, &ids);
        assert!(distance(&bf16, &whole) < 3e-2, "{case}");
    }
}

#[test]
fn an_adapter_with_new_tokens_is_merged() {
    for case in CASES {
        let (ids, expected) = reference(case);
        let model = open(case).with_tokens_of(&adapter(case)).expect("its tokenizer");
        let out = tempfile::tempdir().expect("a folder");
        model.write_merged(Some(&adapter(case)), &MERGE, &out.path().join("merged")).expect("written");
        let merged = Model::open(&out.path().join("merged")).expect("a model");
        assert!(distance(&logits(&merged, None, &ids), &expected) < 1e-5, "{case}");
    }
}

#[test]
fn tokens_that_cannot_be_added_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |name: &str, text: &str, expected: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).expect("written");
        let error = open("llama-gqa-tied").with_added_tokens(&file).expect_err(expected).to_string();
        assert!(error.contains(expected), "'{expected}' is not in: {error}");
    };
    refused("none.txt", "\n\n", "lists 0 tokens");
    refused("twice.txt", "<x>\n<y>\n<x>\n", "has \"<x>\" twice");
    refused("blank.txt", "<x>\n  \n", "which is no text");
    refused("there.txt", "e\n", "has the token \"e\" already, as ");
    refused("list.json", "{\"a\": 1}", "is not valid JSON");
    refused("list.json", "[{\"content\": \"x\", \"lstrip\": true}]", "is not valid JSON");
    let preset = Model::from_preset("gpt2").expect("a preset");
    let error = preset.with_added_tokens(Path::new("tokens.txt")).expect_err("no tokenizer").to_string();
    assert!(error.contains("needs the tokenizer of a model folder"), "{error}");
    // A special token stands for itself, and is left out of texts.
    let file = folder.path().join("special.json");
    std::fs::write(&file, r#"["<x>", {"content": "<y>", "special": true}]"#).expect("written");
    let model = open("llama-gqa-tied").with_added_tokens(&file).expect("tokens");
    let json = model.tokenizer_json().expect("another tokenizer");
    let tokenizer = remat_formats::Tokenizer::from_bytes(Path::new("tokenizer.json"), json).expect("a tokenizer");
    let [x, y] = ["<x>", "<y>"].map(|token| tokenizer.token_to_id(token).expect("a token"));
    assert!(!tokenizer.is_special(x) && tokenizer.is_special(y));
    assert_eq!(tokenizer.encode("<x>", false).expect("a text"), [x]);
    // There were rows for these already.
    assert_eq!(model.config().vocab_size, open("llama-gqa-tied").config().vocab_size);
}
