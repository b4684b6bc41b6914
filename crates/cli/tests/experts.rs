//! Models with experts, and adapters with new tokens, through every verb as a user runs them.

mod prices;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

const TRAIN: &str = "--steps 3 --batch-size 2 --grad-accum 2 --lr 1e-2 --threads 2 --quiet";

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

/// Runs a verb in a folder, which has to be good; arguments are split at blanks, `@` is the fixtures' folder.
fn remat(folder: &Path, arguments: &str) -> String {
    let arguments = arguments.replace('@', &fixtures().display().to_string());
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", prices::NO_CACHE).env("XDG_STATE_HOME", folder);
    let output = command.current_dir(folder).args(arguments.split_whitespace()).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{arguments}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn json(folder: &Path, arguments: &str) -> Value {
    let text = remat(folder, arguments);
    serde_json::from_str(&text).unwrap_or_else(|_| panic!("{arguments}: {text}"))
}

#[test]
fn experts_are_planned_profiled_trained_asked_merged_and_exported() {
    for (name, method) in [("mixtral", "lora"), ("qwen2_moe", "qlora --quant nf4"), ("qwen3_moe", "qlora --quant int8")]
    {
        let folder = tempfile::tempdir().expect("a folder");
        let run = |arguments: &str| remat(folder.path(), arguments);
        let model = format!("--model @/parity/{name}");
        let plan = json(folder.path(), &format!("plan --json {model} --method {method} --seq-len 32 --memory 4GiB"));
        assert!(plan["fits"] == true && plan["activation_bytes"].as_u64() > Some(0), "{name}: {plan}");
        let measured = prices::file(folder.path(), prices::QUICK).display().to_string();
        let profile =
            format!("profile --json {model} --seq-len 24 --repeats 1 --policies none,full --prices {measured}");
        let rows = json(folder.path(), &profile)["rows"].clone();
        assert_eq!(rows[0]["trained_hash"], rows[1]["trained_hash"], "{name}");
        let data = format!("--data @/parity/{name}/rows.jsonl");
        run(&format!(
            "train {model} {data} --method {method} --precision bf16 --router-aux-loss-coef 0.01 --rank 2 {TRAIN} --out run"
        ));
        let eval = |more: &str| {
            let report = json(folder.path(), &format!("eval --json {model} {data} --precision f32 {more}"));
            report["loss"].as_f64().expect("a loss")
        };
        let (base, adapted) = (eval(""), eval("--adapter run"));
        assert!(adapted < base, "{name}: {adapted}, the base {base}");
        let ask = |whom: &str| run(&format!("generate {whom} --prompt tide --max-tokens 8 --precision f32 --quiet"));
        let answer = ask(&format!("{model} --adapter run"));
        run(&format!("merge {model} --adapter run --out merged --dtype f32"));
        assert_eq!(ask("--model merged"), answer, "{name}");
        if name != "qwen3_moe" {
            run(&format!("export gguf {model} --adapter run --merge --out model.gguf"));
            assert!(run("inspect model.gguf").contains("ffn_gate_exps"), "{name}");
        }
    }
}

#[test]
fn an_adapter_with_new_tokens_is_evaluated_asked_merged_exported_and_gone_on_with() {
    for name in ["llama-gqa-tied", "mistral"] {
        let folder = tempfile::tempdir().expect("a folder");
        let run = |arguments: &str| remat(folder.path(), arguments);
        let (model, rows) = (format!("--model @/parity/{name}"), "--data @/added_tokens/rows.jsonl");
        run(&format!("train {model} {rows} --add-tokens @/added_tokens/tokens.txt --rank 2 {TRAIN} --out run"));
        let settings = std::fs::read_to_string(folder.path().join("run/adapter_config.json")).expect("settings");
        let settings: Value = serde_json::from_str(&settings).expect("JSON");
        let trained = &settings["trainable_token_indices"];
        let of_embedding = if trained.is_array() { trained } else { &trained["embed_tokens"] };
        assert_eq!(of_embedding.as_array().map(Vec::len), Some(14), "{name}: {trained}");
        assert_eq!(trained.is_array(), name == "llama-gqa-tied", "{name}: {trained}");
        let eval = |whom: &str| {
            let report = json(folder.path(), &format!("eval --json {whom} {rows} --precision f32"));
            (report["loss"].as_f64().expect("a loss"), report["tokens"].as_u64().expect("a count"))
        };
        let (loss, tokens) = eval(&format!("{model} --adapter run"));
        // Without the new tokens the same texts are more of them.
        assert!(tokens < eval(&model).1, "{name}");
        let ask = |whom: &str| run(&format!("generate {whom} --prompt <a0> --max-tokens 8 --precision f32 --quiet"));
        let answer = ask(&format!("{model} --adapter run"));
        run(&format!("merge {model} --adapter run --out merged --dtype f32"));
        assert_eq!(ask("--model merged"), answer, "{name}");
        assert!((eval("--model merged").0 - loss).abs() < 1e-5, "{name}");
        run(&format!("export gguf {model} --adapter run --merge --out model.gguf"));
        run(&format!("train {model} {rows} --init-adapter run {TRAIN} --out more"));
        assert!(eval(&format!("{model} --adapter more")).0 < loss, "{name}");
    }
}
