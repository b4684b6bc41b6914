//! Names of the Hub in place of folders and files, against a server on the loopback device.
//!
//! Invariant: nothing here asks anybody outside this machine.

#[allow(dead_code)]
#[path = "../../hub/tests/hub/server.rs"]
mod server;

use serde_json::Value;
use server::{Answer, COMMIT, Server, listed, listing};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn case() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity/llama-gqa-tied")
}

/// A fixture as the model `org/tiny`, and its rows in two files as the data set `org/rows`.
fn serving() -> Server {
    let read = |name: &str| fs::read(case().join(name)).expect("a fixture");
    let model = ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"];
    let model = model.map(|name| (name.to_string(), read(name)));
    let rows = String::from_utf8(read("rows.jsonl")).expect("text");
    let lines: Vec<&str> = rows.split_inclusive('\n').collect();
    let (first, second) = lines.split_at(lines.len() / 2);
    let rows = [first, second].map(|lines| lines.concat().into_bytes());
    let rows = ["data/train-00000-of-00002.jsonl", "data/train-00001-of-00002.jsonl"].into_iter().zip(rows);
    let rows: Vec<(String, Vec<u8>)> = rows.map(|(name, bytes)| (name.to_string(), bytes)).collect();
    Server::start(move |request, _| {
        let all = |files: &[(String, Vec<u8>)]| {
            listing(
                &files
                    .iter()
                    .map(|(name, bytes)| listed(name, bytes, name.ends_with("safetensors")))
                    .collect::<Vec<_>>(),
            )
        };
        let file = |files: &[(String, Vec<u8>)], name: &str| match files.iter().find(|(known, _)| known == name) {
            Some((_, bytes)) => Answer::file(bytes, request),
            None => Answer::status(404),
        };
        let (of_model, of_rows) =
            (format!("/org/tiny/resolve/{COMMIT}/"), format!("/datasets/org/rows/resolve/{COMMIT}/"));
        match request.path.as_str() {
            "/api/models/org/tiny/revision/main?blobs=true" => all(&model),
            "/api/datasets/org/rows/revision/main?blobs=true" => all(&rows),
            path => match (path.strip_prefix(&of_model), path.strip_prefix(&of_rows)) {
                (Some(name), _) => file(&model, name),
                (_, Some(name)) => file(&rows, name),
                _ => Answer::status(404),
            },
        }
    })
}

/// Runs `remat` in a folder, with the server as the Hub and the folder's `home` as the cache's.
fn remat(server: &Server, folder: &Path, flags: &str, variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.args(flags.split_whitespace()).current_dir(folder).env("NO_COLOR", "1");
    command.env("XDG_CACHE_HOME", folder.join("cache")).env("HF_HOME", folder.join("home"));
    for key in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"] {
        command.env_remove(key);
    }
    // Whoever tests behind a proxy means the loopback device all the same.
    for key in ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy", "HTTPS_PROXY"] {
        command.env_remove(key);
    }
    command.env("HF_ENDPOINT", &server.url).envs(variables.iter().copied());
    command.output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// stderr of a command that has to end so.
fn ended(output: &Output, code: i32, parts: &[&str]) -> String {
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    assert!(!stderr.contains("internal error"), "{stderr}");
    parts.iter().for_each(|part| assert!(stderr.contains(part), "{part} is not in: {stderr}"));
    stderr
}

const OFFLINE: &[(&str, &str)] = &[("HF_HUB_OFFLINE", "1")];
const TRAIN: &str = "train --method lora --rank 2 --steps 2 --batch-size 2 --grad-accum 1 --seq-len 24 --no-shuffle";

#[test]
fn a_run_by_names_is_the_run_on_the_same_files() {
    let server = serving();
    let folder = tempfile::tempdir().expect("a folder");
    let run = |flags: &str, variables| remat(&server, folder.path(), flags, variables);
    let named = format!("{TRAIN} --model org/tiny --data org/rows");
    ended(
        &run(&format!("{named} --out by-name"), &[]),
        0,
        &["fetching model.safetensors", "model     org/tiny at 01234567 (llama)"],
    );
    let files = format!("{TRAIN} --model {0} --data {0}/rows.jsonl --quiet", case().display());
    ended(&run(&format!("{files} --out by-path"), OFFLINE), 0, &[]);
    let read = |name: &str| fs::read(folder.path().join(name)).expect(name);
    assert!(read("by-name/adapter_model.safetensors") == read("by-path/adapter_model.safetensors"));
    // Others can use the adapter: its base has the name that it has everywhere.
    let config: Value = serde_json::from_slice(&read("by-name/adapter_config.json")).expect("JSON");
    assert_eq!(config["base_model_name_or_path"], "org/tiny");
    assert_eq!(config["revision"], COMMIT);
    assert!(text(&read("by-name/config.toml")).contains(&format!("/snapshots/{COMMIT}\"")), "the run is of one commit");

    let asked = server.requests().len();
    ended(&run(&format!("{named} --quiet --out again"), OFFLINE), 0, &[]);
    ended(&run("train --resume --out by-name --steps 3 --schedule linear --quiet", OFFLINE), 0, &[]);
    let generate = "generate --adapter by-name --prompt box --max-tokens 3";
    ended(&run(generate, OFFLINE), 0, &["the base model is org/tiny, as adapter_config.json says"]);
    ended(&run("data check org/rows:0.5 --model org/tiny", OFFLINE), 0, &[]);
    ended(&run("eval --model org/tiny --data org/rows/data/train-00001-of-00002.jsonl", OFFLINE), 0, &[]);
    assert_eq!(server.requests().len(), asked, "what is there is not asked for");
}

#[test]
fn a_plan_needs_no_weights_and_folders_win() {
    let server = serving();
    let folder = tempfile::tempdir().expect("a folder");
    let run = |flags: &str, variables| remat(&server, folder.path(), flags, variables);
    ended(&run("plan --model org/tiny --seq-len 16 --batch-size 1", &[]), 0, &[]);
    assert!(server.requests().iter().all(|request| !request.path.ends_with("model.safetensors")));
    ended(
        &run("generate --model org/tiny --prompt box", OFFLINE),
        2,
        &["--model org/tiny", "not whole", "HF_HUB_OFFLINE"],
    );
    ended(&run("generate --model org/other --prompt box", OFFLINE), 2, &["no such folder", "HF_HUB_OFFLINE"]);
    ended(&run("generate --model org/other --prompt box", &[]), 2, &["no such repository or revision", "HF_TOKEN"]);
    let asked = server.requests().len();
    fs::create_dir_all(folder.path().join("org/tiny")).expect("made");
    ended(&run("plan --model org/tiny", &[]), 2, &["config.json"]);
    ended(&run("plan --model org/tiny --revision v2", &[]), 2, &["--revision", "is a folder here"]);
    // A path that leads nowhere is no name.
    for data in ["org/missing.jsonl", "org/tiny/rows", "./org/rows", "nowhere.jsonl"] {
        let flags = format!("{TRAIN} --model {} --data {data} --out x", case().display());
        ended(&run(&flags, &[]), 2, &[data]);
    }
    assert_eq!(server.requests().len(), asked, "nothing was asked for");
    ended(&run("plan --preset gpt2 --revision v2", &[]), 2, &["--revision", "needs a --model of the Hub"]);
    ended(&run("plan --preset gpt2 --seq-len 16", &[("HF_ENDPOINT", "nonsense")]), 0, &[]);
    ended(&run("plan --model a/b", &[("HF_ENDPOINT", "nonsense")]), 2, &["HF_ENDPOINT=nonsense"]);
}
