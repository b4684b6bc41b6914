//! The best adapter by the loss of held-out rows, kept apart, and runs that end because nothing gets better.

use crate::command::{Train, case, fixtures, remat, text};
use serde_json::Value;
use std::fs;
use std::path::Path;

/// Learns its few rows by heart, so that the loss of other rows falls and then rises.
fn flags() -> String {
    let held_out = fixtures().join("tiny/text.jsonl");
    format!(
        "--method lora --rank 4 --lr 3e-2 --schedule constant --batch-size 4 --grad-accum 1 --steps 24 --eval-every 2 \
         --seq-len 32 --eval-data {}",
        held_out.display()
    )
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))).expect("JSON")
}

/// Losses of the held-out rows with their updates.
fn held_out(train: &Train) -> Vec<(u64, f64)> {
    let log = text(&train.bytes("metrics.jsonl"));
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.filter_map(|line| Some((line["step"].as_u64()?, line["val_loss"].as_f64()?))).collect()
}

/// The first of the lowest.
fn lowest(losses: &[(u64, f64)]) -> (u64, f64) {
    losses.iter().copied().fold((0, f64::INFINITY), |low, seen| if seen.1 < low.1 { seen } else { low })
}

/// The loss that `remat eval` finds for an adapter.
fn evaluated(adapter: &Path) -> f64 {
    let mut eval = remat(["eval", "--json", "--batch-size", "4", "--seq-len", "32", "--data"]);
    eval.arg(fixtures().join("tiny/text.jsonl"))
        .arg("--model")
        .arg(case("llama-gqa-tied"))
        .arg("--adapter")
        .arg(adapter);
    let output = eval.output().expect("runs");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    report["loss"].as_f64().expect("a loss")
}

#[test]
fn what_had_the_lowest_loss_is_kept_apart_and_named() {
    let finished = Train::on("llama-gqa-tied", &flags()).finish();
    let (out, losses) = (finished.train.out(), held_out(&finished.train));
    let (step, loss) = lowest(&losses);
    let last = losses.last().expect("the last update").1;
    assert!(step < 24 && last > loss + 1e-3, "the last is not the best: {losses:?}");

    let best = json(&out.join("best/best.json"));
    assert_eq!((best["step"].as_u64(), best["val_loss"].as_f64()), (Some(step), Some(loss)));
    let record = json(&out.join("record.json"));
    let named = &record["observed"]["best"];
    assert_eq!(
        (&named["path"], &named["step"], &named["val_loss"]),
        (&"best".into(), &best["step"], &best["val_loss"])
    );
    assert_eq!(record["observed"].get("stopped_after"), None);
    assert!((evaluated(&out.join("best")) - loss).abs() < 1e-6);
    assert!((evaluated(&out) - last).abs() < 1e-6, "the result is what the last update left");
    for page in ["record.md", "report.html"] {
        let page = text(&finished.train.bytes(page));
        assert!(page.contains(&format!("after update {step}")), "{page}");
    }
    assert!(finished.stderr.contains(&format!("after update {step}, in {}", out.join("best").display())));
    let leftovers = fs::read_dir(&out).expect("exists").flatten().map(|entry| entry.file_name());
    assert!(
        !leftovers.into_iter().any(|name| name.to_string_lossy().contains("best.") || name == ".remat-best-before")
    );
}

/// The update after which so many evaluations in a row were no better, and the best until then.
fn end_of_patience(losses: &[(u64, f64)], patience: u64) -> (u64, (u64, f64)) {
    let (mut best, mut since) = ((0, f64::INFINITY), 0);
    for &(step, loss) in losses {
        (best, since) = if loss < best.1 { ((step, loss), 0) } else { (best, since + 1) };
        if since == patience {
            return (step, best);
        }
    }
    panic!("the run would have gone on: {losses:?}");
}

#[test]
fn a_run_ends_when_its_patience_does() {
    let whole = Train::on("llama-gqa-tied", &flags()).finish().train;
    let losses = held_out(&whole);
    let (end, (step, loss)) = end_of_patience(&losses, 2);
    let stopped = Train::on("llama-gqa-tied", &format!("{} --early-stop 2", flags())).finish();
    let out = stopped.train.out();
    assert!(end < 24 && lowest(&losses).0 > end, "more patience would have paid: {losses:?}");
    assert_eq!(held_out(&stopped.train), losses[..(end / 2) as usize]);
    assert_eq!(stopped.train.metrics("loss"), whole.metrics("loss")[..end as usize]);
    assert!(
        stopped.stderr.contains(&format!("stopped after {end} of 24 updates: 2 evaluations")),
        "{}",
        stopped.stderr
    );
    let observed = &json(&out.join("record.json"))["observed"];
    assert_eq!((&observed["steps"], &observed["stopped_after"]), (&end.into(), &2.into()));
    assert_eq!((&observed["best"]["step"], &observed["best"]["val_loss"]), (&step.into(), &loss.into()));
    assert!((evaluated(&out.join("best")) - loss).abs() < 1e-6);
    assert!((evaluated(&out) - losses[(end / 2) as usize - 1].1).abs() < 1e-6);

    // It has ended, and says so again; with more patience it goes on as the run that never stopped.
    let again = stopped.train.resume("");
    assert_eq!(again.status.code(), Some(0), "{}", text(&again.stderr));
    assert_eq!(held_out(&stopped.train).len() as u64, end / 2);
    let further = stopped.train.resume("--early-stop 20");
    assert_eq!(further.status.code(), Some(0), "{}", text(&further.stderr));
    assert_eq!(held_out(&stopped.train), losses);
    for name in ["adapter_model.safetensors", "best/adapter_model.safetensors", "best/best.json"] {
        assert!(stopped.train.bytes(name) == whole.bytes(name), "{name}");
    }
}

#[test]
fn patience_without_held_out_rows_is_refused() {
    let output = Train::on("gpt2", "--steps 1 --early-stop 2").command("").output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("--early-stop: given without eval-data: must be both; add --eval-data FILE"), "{message}");
}

#[test]
fn force_takes_the_best_of_the_run_before_away_and_leaves_what_is_somebodys() {
    let train = Train::on("llama-gqa-tied", &flags().replace("--eval-every 2", ""));
    let run = |flags: &str| train.command(flags).output().expect("runs");
    let first = run("--eval-every 2");
    assert_eq!(first.status.code(), Some(0), "{}", text(&first.stderr));
    let best = train.out().join("best");
    assert!(json(&best.join("best.json"))["step"] != 24);
    let replaced = run("--force --eval-every 100");
    assert_eq!(replaced.status.code(), Some(0), "{}", text(&replaced.stderr));
    assert_eq!(json(&best.join("best.json"))["step"], 24, "of the one evaluation of the new run");
    fs::write(best.join("notes.txt"), "mine").expect("written");
    let refused = run("--force");
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(
        text(&refused.stderr).contains("best/notes.txt there was not written by remat"),
        "{}",
        text(&refused.stderr)
    );
    assert!(best.join("adapter_model.safetensors").exists() && best.join("notes.txt").exists());
}
