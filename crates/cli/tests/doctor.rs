//! `remat doctor`: prices are measured once, then read; a damaged cache is not believed.

mod prices;

use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

fn doctor(cache: &std::path::Path, more: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.args(["doctor", "--threads", "1", "--precision", "f32", "--isa", "portable", "--json"]).args(more);
    let command = command.env("XDG_CACHE_HOME", cache).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it runs");
    let mut peak_kibibytes = 0;
    while child.try_wait().expect("a child").is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let mark =
            status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse().ok());
        peak_kibibytes = mark.unwrap_or(0).max(peak_kibibytes);
        std::thread::sleep(Duration::from_millis(20));
    }
    // What a run counts for it: 340 MiB for measuring, 2 for its thread, 14 for the program and 4 in reserve.
    assert!(peak_kibibytes <= 360 << 10, "{peak_kibibytes} KiB");
    let output = child.wait_with_output().expect("it ran");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// One measurement: it takes seconds. What a damaged file leads to beyond "not read" is a test of the cache itself.
#[test]
fn prices_are_measured_once_and_read_unless_damaged() {
    let cache = tempfile::tempdir().expect("temporary folder");
    let first = doctor(cache.path(), &[]);
    let source = first["prices"][0]["source"].as_str().expect("a word");
    assert!(source.starts_with("measured now"), "{source}");
    let history = &first["prices"][0]["history"];
    assert!(history["measured_at"].is_u64() && history["busy"].is_boolean(), "{history}");
    for key in ["cpu", "isa", "memory_bytes", "threads"] {
        assert!(!first["machine"][key].is_null(), "{key}");
    }
    assert_eq!(first["machine"]["isa"], "portable");
    let file = first["prices"][0]["file"].as_str().expect("a path").to_string();
    assert!(file.starts_with(&cache.path().display().to_string()), "{file}");
    let folder = cache.path().to_str().expect("UTF-8");
    let second = doctor(cache.path(), &["--offload", folder]);
    assert_eq!(second["prices"][0]["source"], "from the cache");
    assert_eq!(second["prices"][0]["rates"], first["prices"][0]["rates"]);

    assert!(second["offload"]["write_bytes_per_second"].is_f64() && first["offload"].is_null(), "{second}");

    let plan = |cache: &str, more: &str| {
        let arguments =
            format!("plan --preset gpt2 --seq-len 64 --threads 1 --isa portable --memory 64GiB --json{more}");
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        let output = command.args(arguments.split(' ')).env("XDG_CACHE_HOME", cache).output().expect("it runs");
        let error = || panic!("{}", String::from_utf8_lossy(&output.stderr));
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| error());
        (plan["prices_measured"].clone(), plan["step_seconds"].clone())
    };
    let cached = plan(folder, "");
    assert_eq!(cached.0, Value::from(true));
    // What it printed says the same elsewhere, where there is no cache.
    let printed = cache.path().join("printed.json");
    std::fs::write(&printed, second.to_string()).expect("written");
    assert_eq!(plan(prices::NO_CACHE, &format!(" --prices {} --offload {folder}", printed.display())), cached);
    std::fs::write(&file, "{\"schema\": 1, \"prices\": 0}").expect("damaged");
    assert_eq!(plan(folder, "").0, Value::from(false));
}
