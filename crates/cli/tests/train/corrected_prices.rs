//! A run whose steps take far longer than the cached prices say corrects them, says so, and the next plan uses what it
//! found; a run with prices of its own leaves the cache alone.

use crate::command::{Train, remat, text};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// Of the plainest device, so that one file of prices is all there is.
const DEVICE: &str = "--threads 1 --precision f32 --isa portable";

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).expect("prices")).expect("JSON")
}

fn corrections(file: &Path) -> usize {
    read(file)["history"]["corrections"].as_array().expect("a list").len()
}

/// The prices of this machine, measured into a cache, and then a thousand times as cheap as they are.
fn far_too_cheap(cache: &Path) -> PathBuf {
    let mut doctor = remat(["doctor", "--json"].into_iter().chain(DEVICE.split(' ')));
    let output = doctor.env("XDG_CACHE_HOME", cache).output().expect("the binary runs");
    let printed: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let file = PathBuf::from(printed["prices"][0]["file"].as_str().expect("a path"));
    let mut cached = read(&file);
    for rate in cached["prices"]["rates"].as_array_mut().expect("rates") {
        for (key, factor) in [
            ("flops_per_second", 1e3),
            ("bytes_per_second", 1e3),
            ("inner_per_second", 1e3),
            ("overhead_seconds", 1e-3),
        ] {
            // A rate that never binds stays within what a machine could have.
            rate[key] = (rate[key].as_f64().expect("a number") * factor).min(1e19).into();
        }
    }
    cached["history"]["corrections"] = Value::Array(Vec::new());
    std::fs::write(&file, cached.to_string()).expect("written");
    file
}

fn run(cache: &Path, flags: &str) -> Vec<Value> {
    let train = Train::on("llama-gqa-tied", &format!("--method lora --batch-size 8 --json {DEVICE}"));
    let output = train.command(flags).env("XDG_CACHE_HOME", cache).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn told(events: &[Value]) -> Vec<&str> {
    let notes = events.iter().filter(|event| event["event"] == "note").filter_map(|event| event["message"].as_str());
    notes.filter(|note| note.contains("prices are corrected")).collect()
}

fn planned_seconds(cache: &Path) -> f64 {
    let model = crate::command::case("llama-gqa-tied").display().to_string();
    let flags = format!("plan --model {model} --seq-len 64 --json {DEVICE}");
    let output = remat(flags.split(' ')).env("XDG_CACHE_HOME", cache).output().expect("the binary runs");
    let plan: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    plan["step_seconds"].as_f64().expect("seconds")
}

/// A thousand times is no other program's doing, so this holds on a busy machine, too.
#[test]
fn a_run_corrects_prices_that_are_wrong_and_the_next_plan_uses_them() {
    let cache = tempfile::tempdir().expect("temporary folder");
    let file = far_too_cheap(cache.path());
    let before = planned_seconds(cache.path());

    let given = cache.path().join("given.json");
    let mut doctor = remat(["doctor", "--json"].into_iter().chain(DEVICE.split(' ')));
    let printed = doctor.env("XDG_CACHE_HOME", cache.path()).output().expect("the binary runs").stdout;
    std::fs::write(&given, printed).expect("written");
    // Not the cache's: nothing to correct, however long it runs.
    let events = run(cache.path(), &format!("--steps 42 --prices {}", given.display()));
    assert_eq!((told(&events).len(), corrections(&file)), (0, 0));
    // Too few updates to be sure.
    let events = run(cache.path(), "--steps 9");
    assert_eq!((told(&events).len(), corrections(&file)), (0, 0));

    // The first update is not timed, and forty are at most.
    let events = run(cache.path(), "--steps 42");
    assert_eq!((told(&events).len(), corrections(&file)), (1, 1), "said once, written once");
    let correction = &read(&file)["history"]["corrections"][0];
    let seconds = |key: &str| correction[key].as_f64().expect("seconds");
    assert!(seconds("measured_seconds") > 50.0 * seconds("predicted_seconds"), "{correction}");
    let after = planned_seconds(cache.path());
    assert!(after > 20.0 * before, "planned {before} s, and {after} s after the run");
}
