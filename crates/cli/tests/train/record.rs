//! The lab record of a finished run.

use crate::command::{Train, case, copied, remat, text};
use serde_json::Value;

#[test]
fn a_finished_run_leaves_its_record() {
    let train = Train::on("llama-gqa-tied", "--steps 3 --checkpointing full").finish().train;
    let record: Value = serde_json::from_slice(&train.bytes("record.json")).expect("JSON");
    for key in ["remat_version", "started_at", "machine", "model", "data", "config", "plan", "observed", "bound_by"] {
        assert!(!record[key].is_null(), "{key} is missing: {record:#}");
    }
    assert_eq!(record["model"]["family"], "llama");
    let files = [record["model"]["sha256"].as_str(), record["data"][0]["sha256"].as_str()];
    assert!(files.iter().all(|hash| hash.is_some_and(|hash| hash.len() == 64)), "{record:#}");
    assert_eq!(record["plan"]["policy"], "full");
    assert_eq!(record["observed"]["steps"], 3);
    let losses = train.metrics("loss");
    assert_eq!(record["observed"]["first_loss"], losses[0]);
    assert_eq!(record["observed"]["last_loss"], losses[2]);
    let page = String::from_utf8(train.bytes("record.md")).expect("text");
    assert!(page.starts_with("# Lab record") && page.contains("bound by"), "{page}");
}

#[test]
fn two_records_are_compared_like_a_person_would() {
    let none = Train::on("llama-gqa-tied", "--steps 2 --checkpointing none --threads 1").finish().train;
    let full = Train::on("llama-gqa-tied", "--steps 2 --checkpointing full --threads 2").finish().train;
    let diff = |more: &str| {
        let mut command = remat(["record", "diff"]);
        command.arg(none.out()).arg(full.out().join("record.json")).args(more.split_whitespace());
        let output = command.output().expect("runs");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let page = diff("");
    assert!(
        page.contains(
            "The same program, model and data; other machine (threads) and settings (--checkpointing, --threads)."
        ),
        "{page}"
    );
    assert!(page.contains("The last losses are equal in every digit."), "{page}");
    let setting = page.lines().find(|line| line.starts_with("  --checkpointing")).expect("a row");
    assert!(setting.contains("none") && setting.contains("full"), "{page}");
    let json: Value = serde_json::from_str(&diff("--json")).expect("JSON");
    let recomputed = |d: &&Value| d["section"] == "plan" && d["name"] == "recomputed_steps" && d["a"] == 0;
    assert!(json["differences"].as_array().expect("rows").iter().any(|d| recomputed(&d)), "{json:#}");

    std::fs::write(full.out().join("record.json"), "{\"schema\": 1, \"machine\":").expect("written");
    let refused = remat(["record", "diff"]).arg(none.out()).arg(full.out()).output().expect("runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("not a lab record"), "{}", text(&refused.stderr));
}

#[test]
fn a_finished_run_leaves_a_page_that_names_cannot_break() {
    let model = copied("llama-gqa-tied");
    let hostile = model.path().join("<script>alert('x')</script>".replace('/', "\u{2215}"));
    std::fs::create_dir(&hostile).expect("a folder of that name");
    for entry in std::fs::read_dir(model.path()).expect("files").flatten().filter(|entry| entry.path().is_file()) {
        std::fs::rename(entry.path(), hostile.join(entry.file_name())).expect("moved");
    }
    let train = Train::on("llama-gqa-tied", "--steps 4 --eval-every 2").model(&hostile);
    let rows = case("llama-gqa-tied").join("rows.jsonl");
    let output = train.command("").arg("--eval-data").arg(rows).output().expect("runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let page = text(&train.bytes("report.html"));
    assert!(page.contains("&lt;script&gt;") && !page.contains("<script"), "{page}");
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("NaN"), "{page}");
    for part in ["Loss per trained token", "held out", "What memory buys", "Memory over one step", "class=\"chosen\""] {
        assert!(page.contains(part), "{part}");
    }
    assert!(page.contains("prefers-color-scheme:dark") && page.contains("name=\"viewport\""));
}
