//! `remat doctor`: prices are measured once, then read; a damaged cache is not believed.

use serde_json::Value;
use std::process::{Command, Stdio};
use std::time::Duration;

fn doctor(cache: &std::path::Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.args(["doctor", "--threads", "1", "--precision", "f32", "--isa", "portable", "--json"]);
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
    let first = doctor(cache.path());
    assert_eq!(first["prices"][0]["source"], "measured now");
    for key in ["cpu", "isa", "memory_bytes", "threads"] {
        assert!(!first["machine"][key].is_null(), "{key}");
    }
    assert_eq!(first["machine"]["isa"], "portable");
    let file = first["prices"][0]["file"].as_str().expect("a path").to_string();
    assert!(file.starts_with(&cache.path().display().to_string()), "{file}");
    let second = doctor(cache.path());
    assert_eq!(second["prices"][0]["source"], "from the cache");
    assert_eq!(second["prices"][0]["rates"], first["prices"][0]["rates"]);

    let plan = || {
        let arguments = "plan --preset gpt2 --seq-len 64 --threads 1 --isa portable --memory 64GiB --json";
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        let output = command.args(arguments.split(' ')).env("XDG_CACHE_HOME", cache.path()).output().expect("it runs");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["prices_measured"].clone()
    };
    assert_eq!(plan(), Value::from(true));
    std::fs::write(&file, "{\"schema\": 1, \"prices\": 0}").expect("damaged");
    assert_eq!(plan(), Value::from(false));
}
