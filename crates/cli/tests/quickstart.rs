//! The quickstart does what it says: it learns, shows it, compares policies, and leaves a run folder.

use std::path::Path;
use std::process::{Command, Output};

fn quickstart(out: &Path, flags: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    // Prices are measured for this run, and what they are decides nothing here.
    command.env("XDG_CACHE_HOME", out.parent().expect("a folder"));
    command.args(["quickstart", "--threads", "2", "--out"]).arg(out).args(flags).output().expect("the binary runs")
}

/// The numbers of the line that begins with `label`, without their units.
fn numbers(text: &str, label: &str) -> Vec<f64> {
    let line = text.lines().find(|line| line.trim_start().starts_with(label));
    let line = line.unwrap_or_else(|| panic!("no line {label:?} in\n{text}"));
    let words = line.trim_start()[label.len()..].split_whitespace();
    words.filter_map(|word| word.trim_matches(['+', '%']).parse().ok()).collect()
}

#[test]
fn it_learns_shows_it_and_leaves_a_run_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("tour");
    let output = quickstart(&out, &["--epochs", "1"]);
    let (text, progress) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(0), "{progress}");

    // Kept activations fall from none over every:2 to full; each row has a planned and a measured peak and time.
    let rows = ["none ", "every:2 ", "full "].map(|policy| numbers(&text, policy));
    assert!(rows.iter().all(|row| row.len() >= 5), "{rows:?}");
    assert!(rows[0][0] > rows[1][0] && rows[1][0] > rows[2][0], "{rows:?}");
    assert!(text.contains("equal in every bit under all three"), "{text}");

    let loss = numbers(&text, "loss of the answers");
    assert!(loss[1] <= 0.8 * loss[0], "the loss fell from {} to {} only", loss[0], loss[1]);
    let answers = |name: &str| -> Vec<String> {
        let lines = text.lines().filter_map(|line| line.trim_start().strip_prefix(name));
        lines.map(|line| line.trim().to_string()).collect()
    };
    let (before, after) = (answers("before  "), answers("after   "));
    assert!(after.len() >= 5 && before.len() >= 5, "{text}");
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?}\n{after:?}");

    for file in
        ["adapter_model.safetensors", "adapter_config.json", "metrics.jsonl", "record.json", "record.md", "report.html"]
    {
        let path = out.join("adapter").join(file);
        assert!(path.metadata().is_ok_and(|file| file.len() > 0), "{} is missing", path.display());
    }

    assert!(text.contains("adapter/report.html"), "{text}");
    let record = std::fs::read(out.join("record.json")).expect("the record of the whole tour");
    let record: serde_json::Value = serde_json::from_slice(&record).expect("JSON");
    assert_eq!(record["kind"], "quickstart");
    assert_eq!(record["profile"]["rows"].as_array().map(Vec::len), Some(3));
    assert!(record["answers"]["loss_after"].as_f64() < record["answers"]["loss_before"].as_f64(), "{record:#}");

    let again = quickstart(&out, &[]);
    let error = String::from_utf8_lossy(&again.stderr);
    assert_eq!(again.status.code(), Some(2), "{error}");
    assert!(error.contains("--force"), "{error}");
}
