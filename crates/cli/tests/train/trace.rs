//! `--trace`: every step of the plan with its time, and the run unchanged.

use crate::command::Train;
use serde_json::Value;

#[test]
fn a_trace_has_every_step_of_one_update_and_changes_nothing() {
    let flags = "--steps 3 --batch-size 2 --grad-accum 2 --checkpointing full --json";
    let plain = Train::on("llama-gqa-tied", flags).finish();
    let file = plain.train.folder.path().join("trace.json");
    let traced = Train::on("llama-gqa-tied", &format!("{flags} --trace {}", file.display())).finish();
    assert_eq!(traced.train.metrics("loss"), plain.train.metrics("loss"));
    let planned: Value = serde_json::from_str(traced.stdout.lines().next().expect("an event")).expect("JSON");
    let trace: Value = serde_json::from_slice(&std::fs::read(&file).expect("written")).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let of = |phase: &str| events.iter().filter(|event| event["args"]["phase"] == phase).count() as u64;
    // Two micro-steps of the plan, each added to the sum, then the update.
    let micro = 2 * planned["plan_steps"].as_u64().expect("a count");
    assert_eq!(of("forward") + of("backward") + of("recompute"), micro);
    assert_eq!(of("recompute"), 2 * planned["recomputed_steps"].as_u64().expect("a count"));
    assert!(of("update") > 0 && of("accumulation") > 0);
    assert_eq!(of("accumulation") % 2, 0);
    let phases = ["forward", "backward", "recompute", "accumulation", "update"];
    assert_eq!(phases.map(of).iter().sum::<u64>(), events.len() as u64);
    let mut end = 0.0;
    for event in events {
        let (start, duration) = (event["ts"].as_f64().expect("µs"), event["dur"].as_f64().expect("µs"));
        assert!(start >= end - 1e-3 && duration >= 0.0, "{event} begins before {end}");
        end = start + duration;
        assert!(event["name"].is_string() && event["cat"].is_string() && event["ph"] == "X", "{event}");
    }
}
