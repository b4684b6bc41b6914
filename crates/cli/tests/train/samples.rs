//! Texts that are continued by the model in training: what they are, when, in which memory, and that nothing else changes.

use crate::command::{Train, case, fixtures, remat, text};
use serde_json::Value;
use std::path::Path;

const RUN: &str = "--lr 1e-2 --batch-size 3 --grad-accum 1 --steps 5 --seq-len 24";
const SAMPLES: &str = "--sample Once --sample The-harbour --sample-every 2 --sample-tokens 9";

fn samples(train: &Train) -> Vec<Value> {
    text(&train.bytes("samples.jsonl")).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// What `remat generate` makes of a prompt.
fn generated(model: &Path, adapter: Option<&Path>, prompt: &str, more: &[&str]) -> (String, u64) {
    let mut generate =
        remat(["generate", "--json", "--quiet", "--seed", "42", "--max-tokens", "9", "--prompt", prompt]);
    generate.args(more).arg("--model").arg(model);
    generate.args(adapter.iter().flat_map(|adapter| [std::ffi::OsStr::new("--adapter"), adapter.as_os_str()]));
    let output = generate.output().expect("runs");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (answer["text"].as_str().expect("a text").to_string(), answer["tokens"].as_u64().expect("a count"))
}

#[test]
fn samples_are_what_generate_makes_and_change_nothing() {
    for (name, method, precision) in [
        ("llama-gqa-tied", "--method lora --rank 4", "f32"),
        ("llama-gqa-tied", "--method qlora --rank 4", "bf16"),
        ("gpt2", "--method full", "bf16"),
    ] {
        let flags = format!("{RUN} {method} --precision {precision}");
        let with = Train::on(name, &format!("{flags} {SAMPLES}")).finish();
        let without = Train::on(name, &flags).finish();
        let found = samples(&with.train);
        let steps: Vec<u64> = found.iter().map(|sample| sample["step"].as_u64().expect("a count")).collect();
        assert_eq!(steps, [0, 0, 2, 2, 4, 4, 5, 5], "{name}");
        assert_eq!(with.train.metrics("loss"), without.train.metrics("loss"), "{name}: sampling changed the training");
        let out = with.train.out();
        let result = if method.contains("full") { "model.safetensors" } else { "adapter_model.safetensors" };
        assert!(with.train.bytes(result) == without.train.bytes(result), "{name}: sampling changed the result");
        for (index, prompt) in ["Once", "The-harbour"].into_iter().enumerate() {
            let (first, last) = (&found[index], &found[found.len() - 2 + index]);
            assert_eq!((&first["prompt"], &last["prompt"]), (&prompt.into(), &prompt.into()));
            let shown = with.stderr.contains(&format!("sample after update 5: {prompt}"));
            assert!(shown, "{}", with.stderr);
            // What qlora decodes as it goes, generate reads from the files in full.
            if method.contains("qlora") {
                continue;
            }
            let base = case(name);
            let (model, adapter) = if method.contains("full") { (&out, None) } else { (&base, Some(out.as_path())) };
            let as_sample = |sample: &Value| {
                (sample["text"].as_str().expect("a text").to_string(), sample["tokens"].as_u64().expect("a count"))
            };
            let precision = ["--precision", precision];
            assert_eq!(as_sample(first), generated(&base, None, prompt, &precision), "{name}: before the first update");
            assert_eq!(as_sample(last), generated(model, adapter, prompt, &precision), "{name}: after the last update");
        }
    }
}

#[test]
fn the_report_shows_samples_and_memory_is_counted() {
    let flags = format!("{RUN} {SAMPLES} --json --eval-data {}", fixtures().join("tiny/text.jsonl").display());
    let finished = Train::on("llama-gqa-tied", &flags).finish();
    let events: Vec<Value> = finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |event: &str| events.iter().filter(|found| found["event"] == event).collect::<Vec<_>>();
    assert_eq!(of("sampled").len(), 8);
    let planned = &of("planned")[0]["parts"];
    assert!(planned["kv_cache"].as_u64() > Some(0) && planned["sample_tokenizer"].as_u64() > Some(0), "{planned}");
    let last = of("finished")[0];
    assert!(last["peak_bytes"].as_u64() <= last["planned_peak_bytes"].as_u64(), "{last}");
    let page = text(&finished.train.bytes("report.html"));
    assert!(page.contains("Samples") && page.contains("The text: The-harbour") && page.contains("update 4"), "{page}");
}

#[test]
fn a_plan_counts_what_sampling_needs() {
    let phases = |more: &[&str]| {
        let mut plan = remat(["plan", "--json", "--seq-len", "24", "--model"]);
        let output = plan.arg(case("llama-gqa-tied")).args(more).output().expect("runs");
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let of = |name: &str| plan["phases"].as_array().expect("phases").iter().find(|p| p["name"] == name).cloned();
        (of("load").expect("a phase"), of("evaluation").expect("a phase"))
    };
    let ((_, without), (load, with)) = (phases(&[]), phases(&["--sample", "Once"]));
    let part = |phase: &Value, name: &str| phase["parts"][name].as_u64().unwrap_or(0);
    assert_eq!((part(&without, "kv_cache"), part(&load, "kv_cache")), (0, 0));
    // Two layers, keys and values of two heads of 16 numbers for each token.
    assert!(part(&with, "kv_cache") > 0 && part(&with, "tokenizer") > 0, "{with}");
    assert!(with["peak_bytes"].as_u64() > without["peak_bytes"].as_u64());
}

#[test]
fn what_cannot_be_sampled_is_refused() {
    for (flags, message) in [
        ("--sample-every 2", "--sample-every: given without sample: must be both; add --sample TEXT"),
        ("--sample-tokens 2", "--sample-tokens: given without sample"),
        ("--sample Once --sample-tokens 0", "--sample-tokens 0: must be at least 1"),
    ] {
        let output = Train::on("gpt2", &format!("--steps 1 {flags}")).command("").output().expect("runs");
        assert_eq!(output.status.code(), Some(2), "{flags}");
        assert!(text(&output.stderr).contains(message), "{flags}: {}", text(&output.stderr));
    }
    let out = tempfile::tempdir().expect("folder");
    let mut preset = remat(["train", "--preset", "gpt2", "--steps", "1", "--sample", "Once", "--out"]);
    let output = preset.arg(out.path().join("out")).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("--sample: needs a tokenizer, and a preset has none; give --model DIR"), "{message}");
    let train = Train::on("gpt2", "--steps 1");
    let output = train.command("").arg("--sample").arg("word ".repeat(400)).output().expect("runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("positions; shorten it"), "{}", text(&output.stderr));
}
