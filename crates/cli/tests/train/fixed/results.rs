//! What a run left, and the file of what it should have left. Invariant: a missing record is a failure, not a pass.

use crate::command::text;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// One recording at a time, where the tests are threads of one process: record with `cargo test`, not with nextest.
static FILE: Mutex<()> = Mutex::new(());

/// Hashes and numbers of a run, in the form of the file.
#[derive(Debug, PartialEq)]
pub struct Observed(Value);

impl Observed {
    /// Of a run folder whose last save is `checkpoint-<steps>`.
    pub fn of(out: &Path, steps: u64) -> Observed {
        let result = ["adapter_model.safetensors", "model.safetensors"].map(|name| out.join(name));
        let result = result.iter().find(|path| path.is_file()).expect("a result");
        let optimizer = out.join(format!("checkpoint-{steps}/optimizer.safetensors"));
        let log = text(&read(&out.join("metrics.jsonl")));
        let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
        assert_eq!(lines.len() as u64, steps, "{}", out.display());
        let numbers = |key: &str| lines.iter().map(|line| line[key].clone()).collect::<Vec<_>>();
        let held_out: Vec<Value> = numbers("val_loss").into_iter().filter(|loss| !loss.is_null()).collect();
        Observed(json!({
            "result": sha256(&read(result)),
            "optimizer": sha256(&read(&optimizer)),
            "loss": numbers("loss"),
            "grad_norm": numbers("grad_norm"),
            "val_loss": held_out,
        }))
    }
}

fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut hex, byte| {
        write!(hex, "{byte:02x}").expect("a string");
        hex
    })
}

fn path() -> PathBuf {
    super::tests().join("results.json")
}

/// Holds a level's runs to the file, or writes them into it where the environment asks for that.
pub fn hold(level: &str, observed: &[(&str, Observed)]) {
    if std::env::var_os("REMAT_RECORD").is_some() {
        return record(level, observed);
    }
    let recorded: Value = serde_json::from_slice(&read(&path())).expect("JSON");
    let differences: Vec<String> = observed
        .iter()
        .filter(|(name, observed)| recorded[level][*name] != observed.0)
        .map(|(name, observed)| format!("{name}:\n  recorded {}\n  observed {}", recorded[level][*name], observed.0))
        .collect();
    assert!(
        differences.is_empty(),
        "{level}: {} of {} runs are not what was recorded; if that is meant, record anew (see fixed/mod.rs)\n{}",
        differences.len(),
        observed.len(),
        differences.join("\n")
    );
}

fn record(level: &str, observed: &[(&str, Observed)]) {
    let _one_at_a_time = FILE.lock().expect("no recording failed");
    let recorded = fs::read(path()).ok().map(|text| serde_json::from_slice(&text).expect("JSON"));
    let mut recorded: Map<String, Value> = recorded.unwrap_or_default();
    let of_level = recorded.entry(level).or_insert_with(|| json!({})).as_object_mut().expect("runs by name");
    of_level.extend(observed.iter().map(|(name, observed)| (name.to_string(), observed.0.clone())));
    let text = serde_json::to_string_pretty(&recorded).expect("JSON");
    fs::write(path(), text + "\n").expect("written");
}
