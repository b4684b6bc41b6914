//! `remat doctor`: prices are measured once, then read; a cache that is damaged is measured anew.

use serde_json::Value;
use std::process::Command;

fn doctor(cache: &std::path::Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    let output =
        command.args(["doctor", "--threads", "1", "--json"]).env("XDG_CACHE_HOME", cache).output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn prices_are_measured_once_and_a_damaged_cache_is_measured_anew() {
    let cache = tempfile::tempdir().expect("temporary folder");
    let first = doctor(cache.path());
    let source = |report: &Value, index: usize| report["prices"][index]["source"].as_str().map(str::to_string);
    assert_eq!(source(&first, 0).as_deref(), Some("measured now"));
    for (key, kind) in [("cpu", "model"), ("isa", "level"), ("memory_bytes", "size")] {
        assert!(!first["machine"][key].is_null(), "{kind}");
    }
    let file = first["prices"][0]["file"].as_str().expect("a path").to_string();
    assert!(file.starts_with(&cache.path().display().to_string()), "{file}");
    std::fs::write(&file, "{\"schema\": 1, \"prices\": 0}").expect("damaged");
    let second = doctor(cache.path());
    let sources: Vec<_> = (0..2).map(|index| source(&second, index)).collect();
    assert_eq!(sources.iter().flatten().collect::<Vec<_>>(), ["measured now", "from the cache"]);
    assert_eq!(second["prices"][1]["rates"], first["prices"][1]["rates"]);

    let plan = |precision: &str| {
        let arguments = "plan --preset gpt2 --seq-len 64 --threads 1 --memory 64GiB --json --precision";
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        command.args(arguments.split(' ')).arg(precision).env("XDG_CACHE_HOME", cache.path());
        let output = command.output().expect("it runs");
        serde_json::from_slice::<Value>(&output.stdout).expect("JSON")["prices_measured"].clone()
    };
    assert_eq!(plan("f32"), Value::from(true));
    std::fs::remove_dir_all(cache.path().join("remat")).expect("gone");
    assert_eq!(plan("f32"), Value::from(false));
}
