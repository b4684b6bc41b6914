//! `remat profile` as a user runs it: planned beside measured, the same result under every policy, a verdict, a record.

mod prices;

use serde_json::Value;
use std::path::Path;
use std::process::Command;

#[test]
fn policies_side_by_side_with_a_verdict_and_a_record() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().expect("a folder");
    let run = |more: &[&str]| {
        let flags = "profile --model fixtures/parity/gpt2 --seq-len 32 --batch-size 8 --repeats 2 --threads 2";
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        command
            .current_dir(&root)
            .env("XDG_CACHE_HOME", folder.path())
            .env("XDG_STATE_HOME", folder.path())
            .args(flags.split_whitespace())
            .args(more);
        let output = command.output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let out = folder.path().join("lab");
    let text = run(&["--json", "--policies", "none,full", "--out", out.to_str().expect("UTF-8")]);
    let json: Value = serde_json::from_str(&text).expect("one object");
    let rows = json["rows"].as_array().expect("rows");
    let number = |row: usize, key: &str| rows[row][key].as_f64().unwrap_or_else(|| panic!("no {key}: {text}"));
    assert!(number(1, "activation_bytes") < number(0, "activation_bytes"), "{text}");
    assert!(number(0, "extra_flops_percent") == 0.0 && number(1, "extra_flops_percent") > 0.0, "{text}");
    for row in 0..2 {
        for key in ["planned_peak_bytes", "measured_peak_bytes", "planned_step_seconds", "step_seconds"] {
            assert!(number(row, key) > 0.0, "{key}: {text}");
        }
        // Slots are rounded up to lines of the cache, and the padding is never written.
        let (planned, measured) = (number(row, "activation_bytes"), number(row, "measured_activation_bytes"));
        assert!(measured <= planned && measured > 0.98 * planned, "{measured} of {planned}: {text}");
    }
    assert_eq!(rows[0]["trained_hash"], rows[1]["trained_hash"], "the policy changed what was trained");
    assert_eq!(json["footprint_bytes"], json["footprint_bytes_with_checkpointing"]);
    assert!(json["verdict"].as_str().expect("a sentence").contains("pay"), "{text}");
    let record: Value =
        serde_json::from_slice(&std::fs::read(out.join("record.json")).expect("a record")).expect("JSON");
    assert_eq!((&record["kind"], &record["schema"]), (&Value::from("profile"), &Value::from(1)));
    assert_eq!(record["profile"]["rows"], json["rows"]);
    assert_eq!(record["model"]["sha256"].as_str().map(str::len), Some(64), "{record:#}");
    assert!(std::fs::read_to_string(out.join("record.md")).expect("a page").contains("## Policies"));
    let report = std::fs::read_to_string(out.join("report.html")).expect("a report");
    for part in
        ["Predicted and measured", "Activations kept", "Memory over one step", json["verdict"].as_str().expect("text")]
    {
        assert!(report.contains(part), "{part}: {report}");
    }
    let again = Command::new(env!("CARGO_BIN_EXE_remat"))
        .current_dir(&root)
        .args(["profile", "--model", "fixtures/parity/gpt2", "--out", out.to_str().expect("UTF-8")])
        .output()
        .expect("runs");
    assert_eq!(again.status.code(), Some(2), "a record is replaced only with --force");

    let page = run(&["--policies", "none,full"]);
    assert!(page.contains("equal in every bit under all of them"), "{page}");
    let kept = page.lines().find_map(|line| line.strip_prefix("Lab record: ")).expect("says where it is");
    let diff =
        Command::new(env!("CARGO_BIN_EXE_remat")).args(["record", "diff", kept]).arg(&out).output().expect("runs");
    let diff = String::from_utf8(diff.stdout).expect("UTF-8");
    assert!(diff.contains("settings are the same") && diff.contains("full step_seconds"), "{diff}");
    let rows = "fixtures/parity/gpt2/rows.jsonl";
    let spill = tempfile::tempdir().expect("a folder");
    let given = prices::file(folder.path(), prices::SLOW);
    let given = ["--prices", given.to_str().expect("UTF-8")];
    let offload = ["--offload", spill.path().to_str().expect("UTF-8"), "--policies", "none,full,budget:256KiB"];
    let page =
        run(&[&given[..], &offload, &["--data", rows, "--out", out.to_str().expect("UTF-8"), "--force"]].concat());
    assert!(page.contains("tokens, 2 counted") && !page.contains("random tokens"), "{page}");
    // Block inputs alone take more than this budget.
    assert!(page.contains("budget:256KiB had ") && page.contains("equal in every bit under all of them"), "{page}");
    let record: Value =
        serde_json::from_slice(&std::fs::read(out.join("record.json")).expect("a record")).expect("JSON");
    assert_eq!((&record["data"][0]["path"], record["data"].as_array().map(Vec::len)), (&Value::from(rows), Some(1)));
    assert_eq!(record["data"][0]["sha256"].as_str().map(str::len), Some(64), "{record:#}");
    let refused = Command::new(env!("CARGO_BIN_EXE_remat"))
        .args(["profile", "--preset", "gpt2", "--policies", "some"])
        .output()
        .expect("runs");
    assert_eq!(refused.status.code(), Some(2));
}

/// `none` needs 64 MiB here, and what it held must not count against the policy after it.
#[test]
fn auto_is_given_the_whole_limit_after_a_policy_that_exceeds_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().expect("a folder");
    let flags = "profile --model fixtures/parity/gpt2 --seq-len 32 --batch-size 128 --repeats 1 --threads 2 --json \
                 --policies none,auto --memory 54MiB --prices";
    let output = Command::new(env!("CARGO_BIN_EXE_remat"))
        .current_dir(&root)
        .env("XDG_CACHE_HOME", folder.path())
        .env("XDG_STATE_HOME", folder.path())
        .args(flags.split_whitespace())
        .arg(prices::file(folder.path(), prices::QUICK))
        .output()
        .expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let planned = |row: usize| json["rows"][row]["planned_peak_bytes"].as_u64().expect("a size");
    assert!(planned(0) > 54 << 20 && planned(1) <= 54 << 20, "{} and {}", planned(0), planned(1));
}

#[test]
fn a_policy_that_cannot_fit_is_refused_with_what_would_do_and_the_others_are_measured() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let folder = tempfile::tempdir().expect("a folder");
    let run = |policies: &str, memory: &str| {
        let flags = "profile --model fixtures/parity/gpt2 --seq-len 32 --batch-size 8 --repeats 1 --threads 2 --json";
        let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
        command
            .current_dir(&root)
            .env("XDG_CACHE_HOME", folder.path())
            .env("XDG_STATE_HOME", folder.path())
            .args(flags.split_whitespace())
            .args(["--policies", policies, "--memory", memory, "--prices"])
            .arg(prices::file(folder.path(), prices::QUICK));
        command.output().expect("runs")
    };
    let output = run("auto,none,budget:1KiB,full", "2MiB");
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let names = |key: &str| -> Vec<&str> {
        json[key].as_array().expect("a list").iter().filter_map(|row| row["policy"].as_str()).collect()
    };
    assert_eq!((names("rows"), names("refused")), (vec!["none", "full"], vec!["auto", "budget:1KiB"]), "{json}");
    for (index, least) in [(0, 2 << 20), (1, 1 << 10)] {
        let refused = &json["refused"][index];
        let smallest = refused["smallest_bytes"].as_u64().expect("a size");
        assert!(
            smallest > least && refused["reason"].as_str().expect("text").contains(&smallest.to_string()),
            "{json}"
        );
    }
    assert_eq!(json["record"]["profile"], Value::Null, "it is the object around the record");
    let only = run("auto", "2MiB");
    assert_eq!(only.status.code(), Some(3), "{}", String::from_utf8_lossy(&only.stderr));
}
