//! The verbs `generate` and `eval` as a user runs them: what stands on stdout, exit codes, refusals.

use serde_json::Value;
use std::path::Path;
use std::process::{Command, Output};

const MODEL: &str = "fixtures/parity/llama-gqa-tied";

fn remat(arguments: &[&str]) -> Output {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    Command::new(env!("CARGO_BIN_EXE_remat")).current_dir(root).args(arguments).output().expect("runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("UTF-8")
}

/// Asserts exit code 2, nothing on stdout, and what stderr says.
fn refused(arguments: &[&str], expected: &str) {
    let output = remat(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains(expected), "'{expected}' is not in: {error}");
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(2), ""), "{arguments:?}");
}

#[test]
fn a_prompt_is_continued_on_stdout() {
    let base = ["generate", "--model", MODEL, "--prompt", "the red box", "--max-tokens", "12"];
    let greedy = remat(&base);
    assert_eq!(greedy.status.code(), Some(0), "{greedy:?}");
    let text = stdout(&greedy);
    assert!(text.ends_with('\n') && text.trim().len() > 3, "{text:?}");
    assert!(String::from_utf8_lossy(&greedy.stderr).contains(" after a prompt of "));
    let with = |more: &[&str]| stdout(&remat(&[&base[..], more].concat()));
    assert_eq!(with(&["--threads", "1"]), text, "greedy text does not depend on threads");
    assert_ne!(with(&["--adapter", &format!("{MODEL}/adapter")]), text, "the adapter counts");
    let random = ["--temperature", "1.5", "--top-k", "40", "--top-p", "0.95", "--seed"];
    let seeded = |seed| with(&[&random[..], &[seed]].concat());
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));
    assert!(with(&["--precision", "bf16"]).trim().len() > 3);
    assert!(with(&["--isa", "portable"]).trim().len() > 3);
    let (before, _) = text.split_once('.').expect("the fixture's greedy text has a full stop");
    assert_eq!(with(&["--stop", "."]).trim_end(), before, "ends before the token");
    let quiet = remat(&[&base[..], &["--quiet"]].concat());
    assert_eq!(stdout(&quiet), text);
    let told = String::from_utf8_lossy(&quiet.stderr).into_owned();
    assert!(told.lines().all(|line| line.starts_with("note: ")), "but for what is worth a note: {told}");
}

#[test]
fn a_loss_is_the_same_at_any_batch_size() {
    let loss = |batch_size: &str, isa: &[&str]| {
        let data = "fixtures/tiny/data.jsonl";
        let flags = ["eval", "--model", MODEL, "--data", data, "--batch-size", batch_size, "--json"];
        let output = remat(&[&flags[..], isa].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let json: Value = serde_json::from_str(&stdout(&output)).expect("one JSON object");
        assert_eq!(json["schema"], 1);
        assert!(isa.last().is_none_or(|isa| json["isa"] == *isa), "{json}");
        assert!(json["tokens"].as_u64().expect("a count") > 100);
        let (loss, perplexity) = (json["loss"].as_f64().expect("a loss"), json["perplexity"].as_f64().expect("one"));
        assert!((perplexity - loss.exp()).abs() < 1e-9 * perplexity);
        loss
    };
    assert!((loss("1", &[]) - loss("5", &[])).abs() < 1e-5);
    assert!((loss("5", &["--isa", "portable"]) - loss("5", &[])).abs() < 1e-4, "roundings only");
    let text = stdout(&remat(&["eval", "--model", MODEL, "--data", "fixtures/tiny/text.jsonl"]));
    assert!(text.starts_with("loss ") && text.contains(" · perplexity "), "{text}");
}

#[test]
fn tensors_of_an_adapter_that_match_nothing_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let adapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(MODEL).join("adapter");
    std::fs::copy(adapter.join("adapter_config.json"), folder.path().join("adapter_config.json")).expect("copied");
    let weights = std::fs::read(adapter.join("adapter_model.safetensors")).expect("weights");
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().expect("8 bytes")) as usize;
    // Another name of the same length, so that nothing else of the file changes.
    let renamed =
        String::from_utf8(weights[8..header].to_vec()).expect("JSON").replace("layers.0.self", "layers.7.self");
    let bytes = [&weights[..8], renamed.as_bytes(), &weights[header..]].concat();
    std::fs::write(folder.path().join("adapter_model.safetensors"), bytes).expect("written");
    let folder = folder.path().to_str().expect("UTF-8");
    for part in
        ["match no target module", "layers.7.self_attn.k_proj.lora_A.weight", "would read", "layers.0.self_attn"]
    {
        refused(&["generate", "--model", MODEL, "--prompt", "box", "--adapter", folder], part);
    }
    refused(
        &["eval", "--model", MODEL, "--data", "fixtures/tiny/data.jsonl", "--adapter", folder],
        "layers.7.self_attn",
    );
}

#[test]
fn bad_input_ends_with_code_2_and_the_remedy() {
    let generate = ["generate", "--model", MODEL, "--prompt", "box"];
    let with = |more: &[&'static str]| [&generate[..], more].concat();
    refused(&with(&["--temperature", "-1"]), "--temperature -1: must be a number from 0");
    refused(&with(&["--top-k", "0"]), "--top-k 0: must be at least 1 token");
    refused(&with(&["--top-p", "1.5"]), "--top-p 1.5: must be above 0 and at most 1");
    refused(&with(&["--threads", "0"]), "must be from 1 to 1024");
    refused(&with(&["--isa", "sse9"]), "avx512-bf16");
    refused(&with(&["--stop", "the red box"]), "give the text of one token");
    let of_another_base = with(&["--adapter", "fixtures/parity/gpt2/adapter"]);
    refused(&of_another_base, "adapter_config.json: target_modules: matches no linear module");
    refused(&["generate", "--model", "nowhere", "--prompt", "a"], "nowhere");
    refused(&["eval", "--model", MODEL, "--data", "nowhere.jsonl"], "nowhere.jsonl");
    refused(&["eval", "--model", MODEL, "--data", "fixtures/tiny/data.jsonl", "--batch-size", "0"], "batch size");
}
