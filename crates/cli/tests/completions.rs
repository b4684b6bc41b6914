//! `remat completions` and `remat schema`: what editors and shells are given names every verb and flag.

use serde_json::Value;
use std::process::Command;

fn stdout(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_remat")).args(arguments).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn completions_name_verbs_and_flags() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(&["completions", shell]);
        for word in ["quantize", "inspect", "save-every", "bad-rows", "merge", "gguf", "shard-size"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    let bash = stdout(&["completions", "bash"]);
    let parsed = Command::new("bash").args(["-n", "-c", &bash]).output().expect("bash");
    assert!(parsed.status.success(), "{}", String::from_utf8_lossy(&parsed.stderr));
}

#[test]
fn the_schema_is_json_and_has_the_settings() {
    let schema: Value = serde_json::from_str(&stdout(&["schema"])).expect("JSON");
    assert_eq!(schema["additionalProperties"], false);
    assert_eq!(schema["properties"]["rank"]["type"], "integer");
}
