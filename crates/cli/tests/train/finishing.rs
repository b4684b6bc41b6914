//! A training that was finished is finished: files that are moved, changed or were a pipe while it went, threads that cannot
//! start, disks that are full.
//!
//! Files change at a moment that the test knows: rows come from a pipe, so the run has opened its model and waits.

use crate::command::{Train, case, copied, remat, text};
use serde_json::Value;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Runs with rows from a pipe; `meanwhile` happens when the run has opened its model and waits for rows.
fn with_rows_from_a_pipe(train: Train, meanwhile: impl FnOnce()) -> (Output, Train) {
    let pipe = train.folder.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo").success());
    let train = train.data(&pipe);
    let child = train.command("--json").stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    let mut writer = OpenOptions::new().write(true).open(&pipe).expect("the run opens its rows");
    meanwhile();
    writer.write_all(&fs::read(case("llama-gqa-tied").join("rows.jsonl")).expect("rows")).expect("read");
    drop(writer);
    (child.wait_with_output().expect("ends"), train)
}

fn record(train: &Train) -> Value {
    serde_json::from_slice(&train.bytes("record.json")).expect("JSON")
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum").arg(path).output().expect("coreutils");
    text(&output.stdout).split_whitespace().next().expect("a hash").to_string()
}

#[test]
fn rows_from_a_pipe_and_a_model_that_moves_away_end_well() {
    for (flags, result) in
        [("--method lora --rank 4", "adapter_model.safetensors"), ("--method full", "tokenizer.json")]
    {
        let model = copied("llama-gqa-tied");
        let train = Train::on("llama-gqa-tied", &format!("{flags} --steps 2 --save-every 1")).model(model.path());
        let away = train.folder.path().join("away");
        let (output, train) = with_rows_from_a_pipe(train, || fs::rename(model.path(), &away).expect("moved"));
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let record = record(&train);
        assert_eq!(record["data"][0]["sha256"], sha256(&case("llama-gqa-tied").join("rows.jsonl")));
        assert_eq!(record["model"]["sha256"], sha256(&away.join("model.safetensors")));
        assert!(!train.bytes("report.html").is_empty() && !train.bytes("record.md").is_empty());
        assert!(!train.bytes(result).is_empty());
    }
}

#[test]
fn weights_that_are_written_to_meanwhile_are_noticed_and_said() {
    let model = copied("llama-gqa-tied");
    let weights = model.path().join("model.safetensors");
    let train = Train::on("llama-gqa-tied", "--steps 2").model(model.path());
    // One more byte than the header says: what the run reads is there all the same.
    let (output, train) = with_rows_from_a_pipe(train, || {
        OpenOptions::new().append(true).open(&weights).and_then(|mut file| file.write_all(b" ")).expect("written");
    });
    let stdout = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(stdout.contains("model.safetensors was written to while this run went"), "{stdout}");
    let record = record(&train);
    assert!(record["model"]["sha256"].is_null(), "{record:#}");
    let why = record["model"]["sha256_missing"].as_str().expect("a reason");
    assert!(why.contains("was changed after it was opened"), "{why}");
    assert!(text(&train.bytes("record.md")).contains(why));
    assert!(!train.bytes("report.html").is_empty());
    let diff = remat(["record", "diff"]).arg(train.out()).arg(train.out()).output().expect("runs");
    assert_eq!(diff.status.code(), Some(0), "{}", text(&diff.stderr));
}

/// More than the address space holds: no thread with such a stack can start.
const NO_THREADS: (&str, &str) = ("RUST_MIN_STACK", "281474976710656");

#[test]
fn a_thread_that_cannot_start_is_an_error_with_a_remedy() {
    let spill = tempfile::tempdir().expect("folder");
    // A limit without room to measure prices, which would take the time of many runs.
    let offload =
        format!("--threads 1 --memory 200MiB --checkpointing budget:34KiB --offload {}", spill.path().display());
    for (flags, remedy) in [("--threads 2", "fewer threads"), (offload.as_str(), "fewer threads")] {
        let train = Train::on("llama-gqa-tied", "--steps 1 --batch-size 4");
        let output = train.command(flags).env(NO_THREADS.0, NO_THREADS.1).output().expect("runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{flags}: {stderr}");
        assert!(stderr.contains(remedy) && stderr.contains("ulimit -u"), "{flags}: {stderr}");
        assert!(!stderr.contains("internal error"), "{stderr}");
        assert!(!train.out().exists());
    }
}

#[test]
fn a_run_on_one_thread_needs_no_other() {
    let train = Train::on("llama-gqa-tied", "--steps 2 --threads 1");
    let output = train.command("").env(NO_THREADS.0, NO_THREADS.1).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&train.bytes("report.html")).contains("What memory buys"));
    assert!(record(&train)["model"]["sha256"].is_string());
}

#[test]
fn a_file_size_limit_is_a_full_disk_and_the_save_before_stays_whole() {
    let train = Train::on("llama-gqa-tied", "--method full --steps 4 --save-every 2 --quiet --seq-len 24");
    let limited = |kibibytes: u64| {
        let command = train.command("");
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -f {}; exec \"$@\"", kibibytes * 2)).arg("sh").arg(command.get_program());
        shell.args(command.get_args()).output().expect("a shell")
    };
    let output = limited(64);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("cannot save") && stderr.contains("free some space"), "{stderr}");
    let names = fs::read_dir(train.out()).expect("a folder").flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("tmp")), "nothing half-written is left");
}

/// Tokens go to the disk while rows are read, so one that is too small shows before the first step.
#[test]
fn a_disk_too_small_for_the_rows_leaves_nothing_behind() {
    let train = Train::on("llama-gqa-tied", "--steps 1 --quiet");
    let rows = train.folder.path().join("rows.jsonl");
    let row = format!("{{\"input_ids\": [{}5]}}\n", "7,".repeat(99));
    fs::write(&rows, row.repeat(6000)).expect("written");
    let train = train.data(&rows);
    let command = train.command("");
    let mut shell = Command::new("sh");
    shell.arg("-c").arg("ulimit -f 2048; exec \"$@\"").arg("sh").arg(command.get_program()).args(command.get_args());
    let output = shell.output().expect("a shell");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("the tokens of the rows cannot be written there") && stderr.contains("make room"),
        "{stderr}"
    );
    let left = fs::read_dir(train.folder.path()).expect("a folder").flatten().map(|entry| entry.file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["rows.jsonl"]);
}

/// What training does not change goes with a fully trained model, into its saves, too, and with an adapter; `--force` takes
/// the model that it replaces away.
#[test]
fn a_trained_model_has_all_that_goes_with_the_base() {
    let model = copied("llama-gqa-tied");
    let templates = model.path().join("additional_chat_templates");
    fs::create_dir(&templates).expect("made");
    let more = [
        ("chat_template.jinja", "{{ messages[0].content }}"),
        ("additional_chat_templates/tool_use.jinja", "{{ tools }}"),
        ("additional_chat_templates/rag.jinja", "{{ documents }}"),
        ("tokenizer.model", "pieces"),
    ];
    more.iter().for_each(|(name, text)| fs::write(model.path().join(name), text).expect("written"));
    fs::write(templates.join("notes.txt"), "no template").expect("written");
    let flags = "--method full --steps 1 --batch-size 2 --seq-len 24 --save-every 1 --quiet";
    let train = Train::on("llama-gqa-tied", flags).model(model.path()).finish().train;
    for folder in ["", "checkpoint-1/"] {
        for (name, expected) in more {
            assert_eq!(text(&train.bytes(&format!("{folder}{name}"))), expected, "{folder}{name}");
        }
        for name in ["generation_config.json", "tokenizer.json", "tokenizer_config.json"] {
            let original = fs::read(model.path().join(name)).expect("the case has it");
            assert!(train.bytes(&format!("{folder}{name}")) == original, "{folder}{name}");
        }
        assert!(!train.out().join(folder).join("additional_chat_templates/notes.txt").exists());
    }
    let resumed = train.resume("--steps 2");
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let mut adapter = remat(["train", "--force", "--steps", "1", "--quiet", "--model"]);
    adapter
        .arg(model.path())
        .arg("--data")
        .arg(case("llama-gqa-tied").join("rows.jsonl"))
        .arg("--out")
        .arg(train.out());
    let adapter = adapter.output().expect("runs");
    assert_eq!(adapter.status.code(), Some(0), "{}", text(&adapter.stderr));
    // What goes with the base goes with an adapter, too; the trained model itself is gone.
    for (name, expected) in more {
        assert_eq!(text(&train.bytes(name)), expected, "{name}");
    }
    assert!(!train.out().join("model.safetensors").exists() && !train.out().join("config.json").exists());
}
