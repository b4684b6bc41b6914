//! Rows of several lengths: short batches run in plans of their own, and nothing else changes.

use crate::command::{Train, case, copied, remat, text};
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

/// With rotary positions that depend on the length, each plan has the frequencies of its own.
#[test]
fn each_length_has_its_own_rotary_frequencies() {
    let factors = [[1.0, 1.2, 1.5, 2.0, 4.0, 8.0, 16.0, 32.0], [32.0, 16.0, 8.0, 4.0, 2.0, 1.5, 1.2, 1.0]];
    // The loss of all rows of a file before the first update.
    let loss = |rows: &[Vec<usize>], [short, long]: [[f64; 8]; 2]| {
        let model = copied("llama-gqa-tied");
        let path = model.path().join("config.json");
        let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&path).expect("a case")).expect("JSON");
        config["rope_parameters"] = serde_json::json!({
            "rope_type": "longrope", "rope_theta": 10000.0, "short_factor": short, "long_factor": long,
            "original_max_position_embeddings": 16,
        });
        std::fs::write(path, config.to_string()).expect("written");
        let flags = format!("--method lora --steps 1 --batch-size 1 --grad-accum {} --no-shuffle", rows.len());
        let train = Train::on("llama-gqa-tied", &flags).model(model.path());
        let data = train.folder.path().join("rows.jsonl");
        let lines = rows.iter().map(|ids| format!("{{\"input_ids\": {ids:?}}}\n")).collect::<String>();
        std::fs::write(&data, lines).expect("written");
        train.data(&data).finish().train.metrics("loss")[0]
    };
    let row = |tokens: usize, row: usize| (0..tokens).map(|token| (row * 31 + token * 7) % 120 + 1).collect::<Vec<_>>();
    let short: Vec<Vec<usize>> = (0..9).map(|n| row(7 + n % 6, n)).collect();
    let long: Vec<Vec<usize>> = (9..12).map(|n| row(25 + n % 6, n)).collect();
    let trained = |rows: &[Vec<usize>]| rows.iter().map(|ids| ids.len() - 1).sum::<usize>() as f64;
    let (of_short, of_long) = (loss(&short, [factors[0]; 2]), loss(&long, [factors[1]; 2]));
    let expected = (of_short * trained(&short) + of_long * trained(&long)) / (trained(&short) + trained(&long));
    let both = loss(&[short.clone(), long.clone()].concat(), factors);
    assert!((both - expected).abs() < 1e-5, "{both} {expected}");
    let others = [loss(&short, [factors[1]; 2]) - of_short, loss(&long, [factors[0]; 2]) - of_long];
    assert!(others.iter().all(|other| other.abs() > 1e-3), "lengths do not matter here: {others:?}");
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
