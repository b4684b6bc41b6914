//! Rows of several lengths: short batches run in plans of their own, and nothing else changes.

use crate::command::{Train, case, remat, text};
use serde_json::Value;
use std::fmt::Write;
use std::path::PathBuf;

/// 24 rows, three quarters of 7 to 12 tokens, the rest of 25 to 30.
fn rows(folder: &std::path::Path) -> PathBuf {
    let mut lines = String::new();
    for row in 0..24_usize {
        let tokens = if row % 4 == 3 { 25 + row % 6 } else { 7 + row % 6 };
        let ids: Vec<usize> = (0..tokens).map(|token| (row * 31 + token * 7) % 120 + 1).collect();
        writeln!(lines, "{{\"input_ids\": {ids:?}}}").expect("a string");
    }
    let path = folder.join("rows.jsonl");
    std::fs::write(&path, lines).expect("written");
    path
}

fn run(name: &str, flags: &str) -> Train {
    let train = Train::on(name, &format!("--method lora --rank 4 --steps 5 --lr 1e-2 --json {flags}"));
    let data = rows(train.folder.path());
    train.data(&data).finish().train
}

#[test]
fn plan_and_train_have_a_plan_for_each_length_in_one_arena() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let data = rows(folder.path());
    let flags = "--method lora --rank 4 --steps 2 --batch-size 1 --json --checkpointing full";
    let finished = Train::on("gpt2", flags).data(&data).finish();
    let planned: Value = serde_json::from_str(finished.stdout.lines().next().expect("an event")).expect("JSON");
    let plan = |view: &str| {
        let mut command = remat(["plan", "--method", "lora", "--rank", "4", "--batch-size", "1"]);
        command.args(["--checkpointing", "full", "--model"]).arg(case("gpt2")).arg("--data").arg(&data);
        command.arg(view).output().expect("the binary runs").stdout
    };
    let page = String::from_utf8(plan("--explain")).expect("UTF-8");
    assert!(page.contains(" of the longest batches, ") && page.contains("≤ 16 "), "{page}");
    let plan: Value = serde_json::from_slice(&plan("--json")).expect("JSON");
    for object in [&plan, &planned] {
        let buckets = object["buckets"].as_array().expect("buckets");
        let number = |index: usize, key: &str| buckets[index][key].as_f64().expect("a number");
        assert_eq!((buckets.len(), number(0, "seq_len"), number(1, "seq_len")), (2, 16.0, 32.0));
        assert_eq!((number(0, "share"), number(1, "share")), (0.75, 0.25));
        for smaller in ["arena_bytes", "activation_bytes", "micro_step_seconds"] {
            assert!(number(0, smaller) < number(1, smaller), "{smaller}");
        }
        assert_eq!(object["seq_len"], 32);
        assert!(object["arena_bytes"].as_f64() >= Some(number(1, "arena_bytes")));
    }
}

#[test]
fn lengths_change_neither_bits_across_plans_nor_the_loss() {
    for name in ["gpt2", "llama-gqa-tied"] {
        let flags = "--batch-size 2 --grad-accum 2 --dropout 0.1";
        let reference = run(name, &format!("{flags} --checkpointing none --threads 1"));
        for other in ["--checkpointing full --threads 2", "--checkpointing every:2 --threads 3 --poison"] {
            let other = run(name, &format!("{flags} {other}"));
            for key in ["loss", "grad_norm"] {
                assert_eq!(other.metrics(key), reference.metrics(key), "{name} {key}");
            }
            assert!(other.bytes("adapter_model.safetensors") == reference.bytes("adapter_model.safetensors"));
        }
    }
    // Four rows at a time are all of one length, as one of them is long.
    let each = run("llama-gqa-tied", "--batch-size 1 --grad-accum 4 --no-shuffle --validate");
    let four = run("llama-gqa-tied", "--batch-size 4 --grad-accum 1 --no-shuffle");
    for (each, four) in each.metrics("loss").iter().zip(four.metrics("loss")) {
        assert!((each - four).abs() < 1e-4, "{each} {four}");
    }
}

#[test]
fn a_run_over_lengths_resumes_exactly_and_stays_within_its_plan() {
    let flags = "--batch-size 1 --grad-accum 3 --save-every 1 --dropout 0.1";
    let (whole, cut) = (run("llama-gqa-tied", flags), run("llama-gqa-tied", flags));
    for name in ["checkpoint-3", "checkpoint-4", "checkpoint-5"] {
        std::fs::remove_dir_all(cut.out().join(name)).expect("removed");
    }
    let output = cut.resume("--checkpointing full");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for key in ["loss", "grad_norm", "tokens"] {
        assert_eq!(whole.metrics(key), cut.metrics(key), "{key}");
    }
    for (peak, planned) in whole.metrics("peak_bytes").iter().zip(whole.metrics("planned_peak_bytes")) {
        assert!((peak - planned).abs() <= 16e6, "{peak} measured, {planned} planned");
    }
}
