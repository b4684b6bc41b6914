//! `remat merge` and `remat export gguf` from outside: what they say, what they refuse, what they leave, what they hold.

use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn case(name: &str) -> String {
    fixtures().join("parity").join(name).to_string_lossy().into_owned()
}

fn remat(arguments: &[&str], folder: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.args(arguments).current_dir(folder).env("NO_COLOR", "1").output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs to the end; stdout and stderr.
fn done(arguments: &[&str], folder: &Path) -> (String, String) {
    let output = remat(arguments, folder);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    (text(&output.stdout), text(&output.stderr))
}

fn refused(arguments: &[&str], folder: &Path, part: &str) {
    let output = remat(arguments, folder);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
    assert!(said.contains(part), "{arguments:?}: {part:?} is not in {said}");
}

/// A run of LoRA, and one of full fine-tuning.
fn runs(folder: &Path) {
    let model = case("llama-gqa-tied");
    let rows = format!("{model}/rows.jsonl");
    for method in ["lora", "full"] {
        let flags = ["train", "--model", &model, "--data", &rows, "--method", method, "--out", method];
        done(&[&flags[..], &["--steps", "2", "--batch-size", "2", "--quiet"]].concat(), folder);
    }
}

#[test]
fn a_run_is_merged_with_the_base_that_it_names() {
    let folder = tempfile::tempdir().expect("a folder");
    runs(folder.path());
    let (said, notes) = done(&["merge", "--adapter", "lora", "--out", "merged"], folder.path());
    assert!(notes.contains("the base model is ") && notes.contains("as adapter_config.json says"), "{notes}");
    assert!(said.contains("parameters in f32 · 1 file, ") && said.contains("21 linears with the adapter"), "{said}");
    assert!(said.contains("rounding to f32 changed these weights by nothing"), "{said}");
    // What the merged folder says is what base and adapter say together.
    let asked = |flags: &[&str]| {
        let generate = ["generate", "--prompt", "the tide", "--max-tokens", "8", "--quiet", "--precision", "f32"];
        done(&[&generate[..], flags].concat(), folder.path()).0
    };
    assert_eq!(asked(&["--model", "merged"]), asked(&["--adapter", "lora"]));
    // A model that was trained whole is no adapter.
    let whole = "lora holds a whole model".replace("lora", "full");
    refused(&["merge", "--adapter", "full", "--out", "x"], folder.path(), &whole);
    let (said, _) = done(&["merge", "--model", "full", "--dtype", "bf16", "--out", "whole", "--json"], folder.path());
    let said: Value = serde_json::from_str(&said).expect("JSON");
    assert_eq!((&said["dtype"], &said["adapted_linears"], &said["schema"]), (&json!("bf16"), &json!(0), &json!(1)));
}

#[test]
fn a_change_that_rounding_swallows_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    runs(folder.path());
    let (said, notes) = done(&["merge", "--adapter", "lora", "--dtype", "bf16", "--out", "m"], folder.path());
    assert!(said.contains("rounding to bf16 changed these weights by 0.1"), "{said}");
    assert!(notes.contains("much beside the ") && notes.contains("--dtype f32 keeps all"), "{notes}");
}

#[test]
fn what_is_there_stays_unless_it_is_a_model_that_remat_wrote() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, adapter) = (case("qwen2"), format!("{}/adapter", case("qwen2")));
    let merge = |more: &[&str]| {
        let flags = ["merge", "--model", &model, "--adapter", &adapter, "--out", "out"];
        remat(&[&flags[..], more].concat(), folder.path())
    };
    assert_eq!(merge(&["--shard-size", "20kB"]).status.code(), Some(0));
    let there = |name: &str| folder.path().join("out").join(name).exists();
    let shards = || {
        let entries = fs::read_dir(folder.path().join("out")).expect("a folder").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("model-0")).count()
    };
    assert!(there("model.safetensors.index.json") && !there("model.safetensors") && shards() > 3);
    let again = merge(&[]);
    assert!(text(&again.stderr).contains("--out out: exists; choose another folder, or replace it with --force"));
    fs::write(folder.path().join("out/notes.txt"), "mine").expect("written");
    assert_eq!(merge(&["--force"]).status.code(), Some(0));
    assert!(there("model.safetensors") && there("notes.txt"), "whole in one file, and theirs stays");
    assert!(!there("model.safetensors.index.json") && shards() == 0, "shards go");
    fs::create_dir(folder.path().join("theirs")).expect("made");
    refused(
        &["merge", "--model", &model, "--out", "theirs", "--force"],
        folder.path(),
        "is not a model folder that remat",
    );
    let gguf = ["export", "gguf", "--model", &model, "--out", "a.gguf"];
    done(&gguf, folder.path());
    refused(&gguf, folder.path(), "--out a.gguf: exists; choose another file, or replace it with --force");
    done(&[&gguf[..], &["--force"]].concat(), folder.path());
}

#[test]
fn a_gguf_file_says_what_it_is() {
    let folder = tempfile::tempdir().expect("a folder");
    let (model, adapter) = (case("llama-gqa-tied"), format!("{}/adapter", case("llama-gqa-tied")));
    let export = |more: &[&str]| {
        let flags = ["export", "gguf", "--model", &model, "--force", "--out", "a.gguf"];
        done(&[&flags[..], more].concat(), folder.path()).0
    };
    let inspect =
        || -> Value { serde_json::from_str(&done(&["inspect", "a.gguf", "--json"], folder.path()).0).expect("JSON") };
    let said = export(&["--adapter", &adapter]);
    assert!(said.starts_with("an adapter of llama.cpp's llama · 42 tensors in F32 · "), "{said}");
    let found = inspect();
    assert_eq!(
        (&found["settings"]["general.type"], &found["settings"]["adapter.lora.alpha"]),
        (&json!("adapter"), &json!(8.0))
    );
    assert_eq!(found["tensors"][0]["name"], "blk.0.attn_q.weight.lora_a");
    let said = export(&["--adapter", &adapter, "--merge", "--type", "q8_0"]);
    assert!(
        said.starts_with("a model of llama.cpp's llama · ") && said.contains("21 linears with the adapter folded in"),
        "{said}"
    );
    let settings = &inspect()["settings"];
    assert_eq!((&settings["tokenizer.ggml.model"], &settings["tokenizer.ggml.pre"]), (&json!("gpt2"), &json!("gpt-2")));
    assert_eq!((&settings["general.file_type"], &settings["llama.attention.head_count_kv"]), (&json!(7), &json!(2)));
    refused(&["export", "gguf", "--model", &model, "--merge", "--out", "b.gguf"], folder.path(), "--adapter");
    refused(
        &["export", "gguf", "--model", &case("smollm3"), "--out", "b.gguf"],
        folder.path(),
        "cannot be exported to GGUF: no_rope_layers",
    );
    assert!(!folder.path().join("b.gguf").exists());
}

/// A file that is as large as it says and takes no room on the disk: zeros that nobody wrote.
fn sparse_model(folder: &Path, width: usize) {
    let inner = 4 * width;
    let config = json!({
        "model_type": "llama", "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": 1,
        "num_attention_heads": 8, "num_key_value_heads": 8, "vocab_size": 1000, "tie_word_embeddings": true,
        "max_position_embeddings": 64, "dtype": "float32",
    });
    fs::create_dir(folder).expect("made");
    fs::write(folder.join("config.json"), config.to_string()).expect("written");
    let layer = "model.layers.0";
    let mut shapes = vec![("model.embed_tokens.weight".to_string(), vec![1000, width])];
    for name in ["q_proj", "k_proj", "v_proj", "o_proj"] {
        shapes.push((format!("{layer}.self_attn.{name}.weight"), vec![width, width]));
    }
    for (name, shape) in [("gate_proj", [inner, width]), ("up_proj", [inner, width]), ("down_proj", [width, inner])] {
        shapes.push((format!("{layer}.mlp.{name}.weight"), shape.to_vec()));
    }
    for name in [format!("{layer}.input_layernorm"), format!("{layer}.post_attention_layernorm"), "model.norm".into()] {
        shapes.push((format!("{name}.weight"), vec![width]));
    }
    let (mut header, mut at) = (serde_json::Map::new(), 0);
    for (name, shape) in shapes {
        let end = at + 4 * shape.iter().product::<usize>();
        header.insert(name, json!({ "dtype": "F32", "shape": shape, "data_offsets": [at, end] }));
        at = end;
    }
    let header = Value::Object(header).to_string();
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header.as_bytes()].concat();
    let path = folder.join("model.safetensors");
    fs::write(&path, &bytes).expect("written");
    let file = fs::File::options().write(true).open(path).expect("opened");
    file.set_len((bytes.len() + at) as u64).expect("as large");
}

/// The process stays within what it planned, which does not grow with the weights: the largest here is 64 MiB.
#[test]
fn a_model_is_written_within_the_planned_memory() {
    let folder = tempfile::tempdir().expect("a folder");
    sparse_model(&folder.path().join("model"), 2048);
    for name in ["tokenizer.json", "tokenizer_config.json"] {
        fs::copy(Path::new(&case("llama-gqa-tied")).join(name), folder.path().join("model").join(name))
            .expect("copied");
    }
    for verb in [&["merge", "--dtype", "bf16"][..], &["export", "gguf", "--type", "f16"]] {
        let out = ["--model", "model", "--json", "--out", verb[0]];
        let said = done(&[verb, &out].concat(), folder.path()).0;
        let said: Value = serde_json::from_str(&said).expect("JSON");
        let (planned, peak) = (said["planned_peak_bytes"].as_u64(), said["peak_bytes"].as_u64());
        let (planned, peak) = (planned.expect("told"), peak.expect("told"));
        assert!(peak <= planned && planned < 80 << 20, "{verb:?}: {peak} of {planned}");
    }
}

/// A limit on the size of files stands for a full disk: a write fails half-way.
#[test]
fn a_disk_that_fills_up_is_an_error_that_leaves_nothing_behind() {
    for verb in ["merge", "export gguf"] {
        let folder = tempfile::tempdir().expect("a folder");
        let script = format!("trap '' XFSZ; ulimit -f 40; exec \"$0\" {verb} --model \"$1\" --out out");
        let output = Command::new("bash")
            .args(["-c", &script, env!("CARGO_BIN_EXE_remat")])
            .arg(case("llama-gqa-tied"))
            .current_dir(folder.path())
            .output()
            .expect("the binary runs");
        assert_eq!(output.status.code(), Some(1), "{verb}: {}", text(&output.stderr));
        assert!(text(&output.stderr).contains("cannot write the file"), "{verb}: {}", text(&output.stderr));
        assert_eq!(fs::read_dir(folder.path()).expect("a folder").count(), 0, "{verb}");
    }
}
