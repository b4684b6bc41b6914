//! The lab record of a finished run.

use crate::command::Train;
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
