//! Held-out rows during training: evaluated when they are due, as `remat eval` would, and without changing anything.

use crate::command::{Train, case, fixtures, remat, text};
use serde_json::Value;

/// The held-out losses of a run by update, and its losses in training.
fn losses(train: &Train) -> (Vec<(u64, f64)>, Vec<f64>) {
    let log = text(&train.bytes("metrics.jsonl"));
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let (mut held_out, mut trained) = (Vec::new(), Vec::new());
    for line in lines {
        trained.push(line["loss"].as_f64().expect("a number"));
        if let Some(loss) = line["val_loss"].as_f64() {
            held_out.push((line["step"].as_u64().expect("a count"), loss));
        }
    }
    (held_out, trained)
}

#[test]
fn held_out_rows_are_evaluated_when_due_and_change_nothing() {
    let rows = fixtures().join("tiny/text.jsonl");
    for (name, method, precision) in [("llama-gqa-tied", "lora", "f32"), ("gpt2", "full", "bf16")] {
        let flags = format!(
            "--method {method} --precision {precision} --dropout 0.1 --lr 1e-3 --batch-size 3 --grad-accum 1 --steps 7"
        );
        let with = Train::on(name, &format!("{flags} --eval-every 3 --eval-data {}", rows.display())).finish();
        assert!(with.stderr.contains("held out") && with.stderr.contains(" · val "), "{}", with.stderr);
        let (held_out, trained) = losses(&with.train);
        assert_eq!(held_out.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [3, 6, 7], "{name}");
        let without = Train::on(name, &flags).finish();
        assert_eq!(losses(&without.train).1, trained, "{name}: evaluation changed the training");

        let out = with.train.out();
        let (model, adapter) = if method == "lora" { (case(name), Some(out)) } else { (out, None) };
        let mut eval = remat(["eval", "--json", "--batch-size", "3", "--precision", precision, "--data"]);
        eval.arg(&rows).arg("--model").arg(model);
        eval.args(adapter.iter().flat_map(|adapter| [std::ffi::OsStr::new("--adapter"), adapter.as_os_str()]));
        let output = eval.output().expect("runs");
        let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let (loss, last) = (report["loss"].as_f64().expect("a loss"), held_out[2].1);
        assert!((loss - last).abs() < 1e-6, "{name}: {loss} after the run, {last} in it");
    }
}

#[test]
fn by_default_once_an_epoch_and_memory_is_counted() {
    let rows = fixtures().join("tiny/text.jsonl");
    let flags = format!("--steps 5 --batch-size 64 --grad-accum 1 --json --eval-data {}", rows.display());
    let finished = Train::on("llama-gqa-tied", &flags).finish();
    // 80 rows in batches of 64: two updates an epoch.
    assert_eq!(losses(&finished.train).0.iter().map(|(step, _)| *step).collect::<Vec<_>>(), [2, 4, 5]);
    let last: Value = serde_json::from_str(finished.stdout.lines().last().expect("an event")).expect("JSON");
    assert!(last["last_val_loss"].is_f64(), "{last}");
    assert!(last["peak_bytes"].as_u64() <= last["planned_peak_bytes"].as_u64(), "{last}");
}

#[test]
fn eval_every_without_rows_is_refused() {
    let train = Train::on("gpt2", "--steps 1 --eval-every 2");
    let output = train.command("").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("--eval-data FILE"), "{}", text(&output.stderr));
}
