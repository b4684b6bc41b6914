//! The account holds: the process stays within its planned peak, and what is neither arena, weights nor state is small.

use crate::command::{Finished, Train, text};
use serde_json::Value;

fn events(finished: &Finished) -> Vec<Value> {
    finished.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn event(events: &[Value], name: &str) -> Value {
    events.iter().find(|event| event["event"] == name).unwrap_or_else(|| panic!("no event {name}")).clone()
}

#[test]
fn measured_is_within_planned_and_the_rest_is_small() {
    for (case, flags) in [
        ("llama-gqa-tied", "--method lora --rank 4 --save-every 2"),
        ("llama-rope3-bias", "--method full --checkpointing full"),
        ("gpt2", "--method full --save-every 1"),
    ] {
        let flags = format!("{flags} --steps 4 --batch-size 4 --threads 2 --json");
        let events = events(&Train::on(case, &flags).finish());
        let (planned, finished) = (event(&events, "planned"), event(&events, "finished"));
        let bytes = |value: &Value| value.as_u64().expect("a size");
        let planned_peak = bytes(&planned["planned_peak_bytes"]);
        let measured = bytes(&finished["peak_bytes"]);
        assert!(measured <= planned_peak, "{case}: measured {measured}, planned {planned_peak}");

        let parts = planned["parts"].as_object().expect("the account");
        let part = |name: &str| bytes(&parts[name]);
        let arena = part("kept_activations") + part("head_workspace") + part("transient");
        assert_eq!(arena, bytes(&planned["arena_bytes"]), "{case}");
        let state = part("weights") + part("trained_parameters") + part("gradients") + part("optimizer");
        let rest: u64 = parts.values().map(bytes).sum::<u64>() - arena - state;
        assert!(rest <= 64 << 20, "{case}: {rest} bytes beside arena, weights and state");
        assert!(planned_peak >= arena + state + rest, "{case}");
    }
}

#[test]
fn moments_of_8_bits_take_less() {
    let optimizer = |kind: &str| {
        let flags = format!("--method full --steps 1 --batch-size 2 --json --optimizer {kind}");
        let events = events(&Train::on("gpt2", &flags).finish());
        event(&events, "planned")["parts"]["optimizer"].as_u64().expect("a size")
    };
    let (bits8, bits32) = (optimizer("adamw8bit"), optimizer("adamw"));
    assert!(bits8 < bits32, "{bits8} bytes of moments in 8 bits, {bits32} in 32");
}

#[test]
fn checkpointing_keeps_less() {
    let kept = |policy: &str| {
        let flags = format!("--method lora --steps 1 --batch-size 4 --json --checkpointing {policy}");
        let events = events(&Train::on("llama-gqa-tied", &flags).finish());
        event(&events, "planned")["parts"]["kept_activations"].as_u64().expect("a size")
    };
    assert!(kept("full") < kept("none"), "{} is not below {}", kept("full"), kept("none"));
}

#[test]
fn updates_carry_the_keys_that_others_rely_on() {
    let finished = Train::on("gpt2", "--steps 2 --batch-size 2 --json").finish();
    let update = event(&events(&finished), "updated");
    let line: Value =
        serde_json::from_slice(finished.train.bytes("metrics.jsonl").split(|&b| b == b'\n').next().unwrap())
            .expect("JSON");
    for key in "step epoch loss lr grad_norm tokens tokens_per_s step_seconds peak_bytes planned_peak_bytes".split(' ')
    {
        assert!(line[key].is_number(), "{key}");
        assert_eq!(update[key], line[key], "{key}");
    }
    assert_eq!(update["schema"], 1);
}

/// Planned peak, recomputed steps, losses and measured peak of a run with an arena that matters.
fn planned(flags: &str) -> (u64, u64, Vec<f64>, u64) {
    let all = "--method lora --rank 4 --steps 2 --batch-size 64 --grad-accum 1 --threads 2 --json";
    let finished = Train::on("llama-gqa-tied", &format!("{all} {flags}")).finish();
    let events = events(&finished);
    let (planned, end) = (event(&events, "planned"), event(&events, "finished"));
    let number = |value: &Value| value.as_u64().expect("a number");
    let losses = finished.train.metrics("loss");
    (number(&planned["planned_peak_bytes"]), number(&planned["recomputed_steps"]), losses, number(&end["peak_bytes"]))
}

#[test]
fn a_memory_limit_is_kept_by_recomputing_and_changes_no_number() {
    let (most, none_recomputed, losses, _) = planned("--checkpointing none");
    let (least, ..) = planned("--checkpointing full");
    assert!(least + (4 << 20) < most, "the test needs room between {least} and {most}");
    let limit = (least + most) / 2;
    let (peak, recomputed, limited_losses, measured) = planned(&format!("--memory {limit}"));
    assert!(peak <= limit && measured <= limit, "planned {peak}, measured {measured}, limit {limit}");
    assert!(none_recomputed == 0 && recomputed > 0, "{none_recomputed}, {recomputed}");
    assert!(losses == limited_losses, "{losses:?}, {limited_losses:?}");
    let (_, unlimited_recomputed, ..) = planned("--memory 1TiB");
    assert_eq!(unlimited_recomputed, 0, "nothing is recomputed where memory is plenty");
}

#[test]
fn a_memory_limit_that_nothing_meets_is_refused() {
    for (flags, part) in [("--memory 8MiB", "--memory allows 8 MiB"), ("--checkpointing budget:1KiB", "budget:")] {
        let train = Train::on("llama-gqa-tied", "--steps 1 --batch-size 64");
        let output = train.command(flags).output().expect("the binary runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{stderr}");
        assert!(stderr.contains(part), "{stderr}");
        assert!(!train.out().exists());
    }
}

fn case_rows(name: &str) -> std::path::PathBuf {
    crate::command::case(name).join("rows.jsonl")
}

/// The exit code of a run under a limit, and what it says it needs where it does not fit.
fn under(limit: u64, flags: &str) -> (Option<i32>, Option<u64>) {
    let train = Train::on("llama-gqa-tied", flags);
    let output = train.command(&format!("--memory {limit}")).output().expect("the binary runs");
    let stderr = text(&output.stderr);
    let needed = stderr.split("this run needs ").nth(1).and_then(|rest| rest.split(' ').next()?.parse().ok());
    (output.status.code(), needed)
}

/// What the allocator happened to leave is no part of the account, so the boundary is one number.
#[test]
fn the_same_command_fits_or_does_not_fit_every_time() {
    let flags = "--method lora --rank 4 --steps 1 --batch-size 64 --grad-accum 1 --threads 2 --quiet";
    // What a refusal asks for is enough, at the second time of asking at the latest: rows that plans have are known then.
    let mut least = 8 << 20;
    let mut refusals = 0;
    while let (Some(3), Some(needed)) = under(least, flags) {
        assert!(needed > least && refusals < 3, "{least} bytes are too few, {needed} are asked for");
        (least, refusals) = (needed, refusals + 1);
    }
    for (limit, code) in [(least, 0), (least - 1, if refusals == 1 { 3 } else { 0 }), (least - (1 << 20), 3)] {
        let codes: Vec<_> = (0..3).map(|_| under(limit, flags).0).collect();
        assert!(codes.iter().all(|&first| first == codes[0]), "{limit}: {codes:?}");
        if limit != least - 1 {
            assert_eq!(codes[0], Some(code), "{limit} of {least}");
        }
    }
    // And a run goes on under the limit that it had.
    let train = Train::on("llama-gqa-tied", &format!("{flags} --save-every 1"));
    let output = train.command(&format!("--memory {least}")).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    for _ in 0..3 {
        let resumed = train.resume("--steps 2");
        assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    }
}

/// A model folder with a tokenizer of twenty thousand tokens, in a file that is longer than it needs to be.
fn with_a_large_tokenizer() -> tempfile::TempDir {
    let model = crate::command::copied("llama-gqa-tied");
    let path = model.path().join("tokenizer.json");
    let mut tokenizer: Value = serde_json::from_slice(&std::fs::read(&path).expect("readable")).expect("JSON");
    let vocab = tokenizer["model"]["vocab"].as_object_mut().expect("a vocabulary");
    let known: Vec<String> = vocab.keys().cloned().collect();
    let mut merges = Vec::new();
    // Rows of ids meet none of these: only their number matters.
    for (a, b) in known.iter().flat_map(|a| known.iter().map(move |b| (a, b))) {
        let id = vocab.len();
        if let serde_json::map::Entry::Vacant(entry) = vocab.entry(format!("{a}{b}")) {
            entry.insert(id.into());
            merges.push(serde_json::json!([a, b]));
        }
    }
    assert!(merges.len() > 10_000, "{} merges", merges.len());
    tokenizer["model"]["merges"] = merges.into();
    let padded = serde_json::to_string_pretty(&tokenizer).expect("JSON") + &" ".repeat(12 << 20);
    std::fs::write(&path, padded).expect("written");
    model
}

/// What a tokenizer takes to be read is planned, and a save takes nothing for it.
#[test]
fn a_tokenizer_larger_than_the_model_is_in_the_account() {
    let model = with_a_large_tokenizer();
    let rows = case_rows("llama-gqa-tied");
    let flags = format!(
        "--method full --steps 2 --save-every 1 --batch-size 2 --threads 1 --json --phases-apart --eval-data {}",
        rows.display()
    );
    let events = events(&Train::on("llama-gqa-tied", &flags).model(model.path()).finish());
    let finished = event(&events, "finished");
    for (name, phase) in finished["phases"].as_object().expect("phases") {
        let bytes = |key: &str| phase[key].as_u64().expect("a size");
        let (planned, peak) = (bytes("planned_bytes"), bytes("peak_bytes"));
        assert!(peak <= planned && planned - peak <= 16 << 20, "{name} took {peak} bytes of {planned} planned");
    }
    let load = finished["phases"]["load"]["peak_bytes"].as_u64().expect("a size");
    assert!(load > 24 << 20, "the tokenizer is what takes most: {load}");
}
