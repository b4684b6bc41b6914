//! `remat plan`: from shapes alone, what it prints and writes, its exit codes, and that a run agrees with it.

mod prices;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn case(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/parity").join(name)
}

fn remat(arguments: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_remat"));
    command.env("NO_COLOR", "1").env("XDG_CACHE_HOME", prices::NO_CACHE);
    command.args(arguments.split_whitespace()).output().expect("the binary runs")
}

fn plan(arguments: &str) -> (Value, Option<i32>) {
    let output = remat(&format!("plan --json {arguments}"));
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    let object = serde_json::from_str(&page);
    (object.unwrap_or_else(|_| panic!("{page}{}", String::from_utf8_lossy(&output.stderr))), output.status.code())
}

fn bytes(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a size"))
}

#[test]
fn the_schema_holds_and_parts_add_up() {
    let (plan, code) = plan("--preset gpt2 --seq-len 128 --memory 64GiB");
    assert_eq!((code, &plan["schema"], &plan["fits"]), (Some(0), &Value::from(1), &Value::from(true)));
    let names: Vec<&str> =
        plan["phases"].as_array().expect("phases").iter().filter_map(|phase| phase["name"].as_str()).collect();
    assert_eq!(names, ["load", "step", "evaluation", "save", "resume"]);
    let mut highest = 0;
    for phase in plan["phases"].as_array().expect("phases") {
        let parts = phase["parts"].as_object().expect("parts");
        for part in "weights packed_weights adapter gradients optimizer activations transient head kv_cache workspace \
                     data_buffers tokenizer offload_host reserve"
            .split_whitespace()
        {
            assert!(parts[part].is_u64(), "{part}");
        }
        assert_eq!(parts.values().map(bytes).sum::<u64>(), bytes(&phase["peak_bytes"]));
        highest = highest.max(bytes(&phase["peak_bytes"]));
    }
    assert_eq!(highest, bytes(&plan["peak_bytes"]));
    for key in ["budget_bytes", "smallest_budget_bytes", "activation_bytes"] {
        assert!(bytes(&plan[key]) > 0, "{key}");
    }
    let points = plan["frontier"].as_array().expect("a frontier");
    assert!(points.len() >= 3);
    for pair in points.windows(2) {
        assert!(bytes(&pair[0]["activation_bytes"]) < bytes(&pair[1]["activation_bytes"]));
        assert!(pair[0]["step_seconds"].as_f64() > pair[1]["step_seconds"].as_f64());
    }
    for alternative in plan["alternatives"].as_array().expect("alternatives") {
        assert!(alternative["change"].as_str().is_some_and(|change| change.starts_with("--")));
        assert!(bytes(&alternative["saves_bytes"]) > 0 && alternative["costs_percent"].is_f64());
    }
    assert!(plan["arena_over_lower_bound"].as_f64().is_some_and(|ratio| (1.0..=1.02).contains(&ratio)));
}

#[test]
fn what_does_not_fit_says_what_would_and_that_does() {
    let (small, code) = plan("--preset gpt2 --seq-len 512 --memory 100MiB");
    assert_eq!((code, &small["fits"]), (Some(3), &Value::from(false)));
    let smallest = bytes(&small["smallest_budget_bytes"]);
    assert!(smallest > 100 << 20 && bytes(&small["peak_bytes"]) <= smallest + (16 << 20), "{small}");
    let (enough, code) = plan(&format!("--preset gpt2 --seq-len 512 --memory {smallest}"));
    assert_eq!((code, &enough["fits"]), (Some(0), &Value::from(true)), "{enough}");
    let (budget, code) = plan("--preset gpt2 --seq-len 512 --memory 64GiB --checkpointing budget:1KiB");
    assert_eq!(code, Some(3));
    let least = bytes(&budget["smallest_activation_bytes"]);
    let (kept, code) = plan(&format!("--preset gpt2 --seq-len 512 --memory 64GiB --checkpointing budget:{least}"));
    assert_eq!((code, bytes(&kept["activation_bytes"])), (Some(0), least));
}

/// Every method in both precisions, over the policies and over models with files and without; no prices are cached.
fn every_method() -> Vec<String> {
    let rows = case("llama-gqa-tied").join("rows.jsonl").display().to_string();
    let model = |name: &str| format!("--model {} --data {rows} --seq-len 32", case(name).display());
    let models = [
        model("llama-gqa-tied"),
        format!("{} --eval-data {rows}", model("qwen3")),
        "--preset gpt2 --seq-len 32".to_string(),
        model("llama-rope3-bias"),
    ];
    let methods =
        ["lora", "lora --rank 4 --dropout 0.1", "qlora", "qlora --quant int8", "full", "full --optimizer adamw8bit"];
    let policies = ["", "--checkpointing every:2", "--checkpointing full", "--checkpointing none"];
    let mut settings = Vec::new();
    for (index, method) in methods.iter().enumerate() {
        for (shift, precision) in ["f32", "bf16"].iter().enumerate() {
            // Each method meets two models and two policies.
            let (model, policy) = (&models[(index + shift) % 4], policies[(index + 3 * shift) % 4]);
            settings.push(format!("{model} --method {method} --precision {precision} {policy}"));
        }
    }
    settings
}

#[test]
fn the_limit_that_is_named_is_enough_for_plan_and_for_train() {
    let folder = tempfile::tempdir().expect("temporary folder");
    for (index, setting) in every_method().iter().enumerate() {
        let (refused, code) = plan(&format!("{setting} --memory 1MiB"));
        assert_eq!((code, &refused["fits"]), (Some(3), &Value::from(false)), "{setting}");
        let least = bytes(&refused["smallest_budget_bytes"]);
        let (planned, code) = plan(&format!("{setting} --memory {least}"));
        assert_eq!((code, &planned["fits"]), (Some(0), &Value::from(true)), "{setting} in {least}");
        let out = folder.path().join(index.to_string());
        let train = format!("train {setting} --steps 1 --out {}", out.display());
        let refused = remat(&format!("{train} --memory 1MiB"));
        let told = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(3), "{setting}: {told}");
        let named = told.split("allow --memory ").nth(1).and_then(|rest| rest.split(';').next());
        let named = named.unwrap_or_else(|| panic!("{setting}: no limit is named in: {told}"));
        let output = remat(&format!("{train} --memory {named}"));
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{setting} in {named}: {told}");
    }
}

#[test]
fn explain_timeline_and_diff_show_the_plan() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let path = |name: &str| folder.path().join(name).display().to_string();
    let all = "--preset gpt2 --seq-len 128 --memory 64GiB";
    let output = remat(&format!(
        "plan {all} --checkpointing full --explain --timeline {} --report {}",
        path("step.svg"),
        path("plan.html")
    ));
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(page.starts_with("fits: peak "), "{page}");
    for part in [
        "h.0: ",
        "h.1 to transformer.h.9, each of 9: ",
        "h.11: ",
        "  recomputed  ",
        "  kept  ",
        "what memory buys",
        "alternatives, cheapest first",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let svg = std::fs::read_to_string(path("step.svg")).expect("written");
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>") && svg.matches("<title>").count() > 300);
    let report = std::fs::read_to_string(path("plan.html")).expect("written");
    for part in ["fits: peak ", "What memory buys", "class=\"chosen\"", "Memory by phase", "Alternatives"] {
        assert!(report.contains(part), "{part}");
    }

    for (name, flags) in [("a.json", ""), ("b.json", "--rank 64 --checkpointing full")] {
        let output = remat(&format!("plan {all} {flags} --json"));
        std::fs::write(path(name), output.stdout).expect("written");
    }
    let output = remat(&format!("plan --diff {} {}", path("a.json"), path("b.json")));
    let page = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{page}");
    for part in
        ["--rank", "--checkpointing", "step seconds", "step, evaluation, save\n", "  activations ", "  adapter "]
    {
        assert!(page.contains(part), "{part}: {page}");
    }
    std::fs::write(path("bad.json"), "{}").expect("written");
    assert_eq!(remat(&format!("plan --diff {0} {0}", path("bad.json"))).status.code(), Some(2));
}

#[test]
fn a_run_plans_what_plan_says() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = case("llama-gqa-tied");
    let flags = format!(
        "--model {} --data {} --rank 4 --batch-size 64 --grad-accum 1 --threads 2 --checkpointing full",
        model.display(),
        model.join("rows.jsonl").display()
    );
    let (planned, _) = plan(&flags);
    let run = remat(&format!("train --json --steps 1 --out {} {flags}", folder.path().join("out").display()));
    let lines = String::from_utf8_lossy(&run.stdout).into_owned();
    let line = lines.lines().find(|line| line.contains("\"planned\"")).expect("an event");
    let event: Value = serde_json::from_str(line).expect("JSON");
    for key in ["arena_bytes", "seq_len", "plan_steps", "recomputed_steps", "trained_parameters"] {
        assert_eq!(planned[key], event[key], "{key}");
    }
    let (a, b) = (bytes(&planned["peak_bytes"]), bytes(&event["planned_peak_bytes"]));
    assert!(a.abs_diff(b) <= 4 << 20, "{a}, {b}");
}

#[test]
fn bad_input_is_refused_with_the_remedy() {
    for (arguments, part) in [
        ("plan", "--model DIR or --preset NAME"),
        ("plan --preset gpt9", "there is no such preset; there are "),
        ("plan --preset gpt2 --seq-len 4096", "1024 positions"),
        ("plan --preset gpt2 --memory lots", "--memory"),
        ("plan --model /nowhere", "/nowhere"),
        ("train --preset gpt2 --data /nowhere.jsonl --out b", "/nowhere.jsonl"),
    ] {
        let output = remat(arguments);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{arguments}: {stderr}");
        assert!(stderr.contains(part), "{arguments}: {stderr}");
    }
}

#[test]
fn what_is_offloaded_is_shown_with_its_copies_and_their_prices() {
    let (folder, kept) =
        (tempfile::tempdir().expect("temporary folder"), tempfile::tempdir().expect("temporary folder"));
    let flags = "--preset gpt2 --seq-len 128 --batch-size 1 --checkpointing budget:2MiB";
    let (refused, code) = plan(flags);
    assert_eq!((code, &refused["offloaded_bytes"], &refused["offload"]), (Some(3), &Value::from(0), &Value::Null));
    let saves = |plan: &Value| {
        let alternatives = plan["alternatives"].as_array().expect("alternatives");
        alternatives.iter().find(|a| a["change"] == "--offload DIR").map(|a| bytes(&a["saves_bytes"]))
    };
    assert!(saves(&refused).is_some_and(|bytes| bytes > 0), "{refused}");

    let measured = format!("{flags} --offload {}", folder.path().display());
    for speed in [prices::QUICK, prices::SLOW] {
        let flags = format!("{measured} --prices {}", prices::file(kept.path(), speed).display());
        let (plan, code) = plan(&format!("{flags} --explain"));
        assert_eq!(code, Some(0), "{plan}");
        assert!(bytes(&plan["activation_bytes"]) <= 2 << 20, "{plan}");
        assert!(saves(&plan).is_none(), "it is chosen already");
        assert_eq!(plan["offload"], serde_json::json!(speed));
        let values = plan["values"].as_array().expect("values");
        let away: Vec<&Value> = values.iter().filter(|value| value["treatment"] == "offloaded").collect();
        assert_eq!(away.iter().map(|value| bytes(&value["bytes"])).sum::<u64>(), bytes(&plan["offloaded_bytes"]));
        assert_eq!(2 * away.len() as u64, bytes(&plan["copy_steps"]));
        assert!(!away.is_empty());
        // The file is there from the load on, and no memory.
        for phase in plan["phases"].as_array().expect("phases") {
            assert_eq!(phase["domains"]["disk"], plan["offloaded_bytes"], "{phase}");
            assert_eq!(
                (&phase["domains"]["host"], &phase["domains"]["device"]),
                (&phase["peak_bytes"], &Value::from(0))
            );
        }

        let page = String::from_utf8_lossy(&remat(&format!("plan {flags} --explain")).stdout).into_owned();
        let line = page.lines().find(|line| line.starts_with("offload ")).expect("a line of its own");
        assert!(line.contains(" copy steps to and from ") && line.ends_with("back, as given"), "{line}");
        assert!(page.lines().any(|line| line.starts_with("on disk   ")), "{page}");
        assert!(page.contains("  offloaded   ") && page.contains(" · prices of "), "{page}");
    }
    let page = String::from_utf8_lossy(&remat(&format!("plan {measured}")).stdout).into_owned();
    let line = page.lines().find(|line| line.starts_with("offload ")).expect("a line of its own");
    assert!(line.ends_with("measured now"), "{line}");
    assert_eq!(std::fs::read_dir(folder.path()).expect("readable").count(), 0);
}

/// Prices of another machine, as `doctor` there printed them: the plan follows them, and what does not fit is refused.
#[test]
fn given_prices_are_those_of_the_plan_and_are_refused_where_they_do_not_fit() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let flags = "--preset gpt2 --seq-len 64 --memory 64GiB --threads 2";
    let planned = |object: &Value| {
        std::fs::write(folder.path().join("prices.json"), object.to_string()).expect("written");
        remat(&format!("plan --json {flags} --prices {}", folder.path().join("prices.json").display()))
    };
    let seconds = |object: &Value| {
        let output = planned(object);
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        assert_eq!(plan["prices_measured"], true);
        plan["step_seconds"].as_f64().expect("a time")
    };
    let good = prices::object(prices::QUICK);
    let slower = {
        let mut slower = good.clone();
        let rates = slower["prices"][0]["rates"].as_object_mut().expect("rates");
        for rate in rates.values_mut().flat_map(|rates| rates.as_object_mut().expect("a rate")) {
            let factor = if rate.0 == "overhead_seconds" { 2.0 } else { 0.5 };
            *rate.1 = Value::from(rate.1.as_f64().expect("a number") * factor);
        }
        slower
    };
    let (quick, slow) = (seconds(&good), seconds(&slower));
    assert!((slow / quick - 2.0).abs() < 1e-6, "{slow} of {quick}");

    let with = |change: &dyn Fn(&mut Value)| {
        let mut changed = good.clone();
        change(&mut changed);
        changed
    };
    let cases = [
        (with(&|o| o["schema"] = 2.into()), "has schema 2"),
        (with(&|o| o["machine"] = serde_json::json!({ "threads": 64 })), "add --threads 64"),
        (with(&|o| drop(o["prices"].as_array_mut().expect("prices").remove(0))), "has no prices of f32"),
        (with(&|o| o["prices"][0]["rates"] = serde_json::json!({})), "has no price of"),
        (with(&|o| o["offload"]["read_bytes_per_second"] = Value::from(-1)), "no machine has such prices"),
        (Value::from("prices"), "doctor --json"),
    ];
    for (object, part) in cases {
        let output = planned(&object);
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{part}: {stderr}");
        assert!(stderr.contains("--prices: ") && stderr.contains(part), "{part}: {stderr}");
    }
    let without = planned(&with(&|o| o["offload"] = Value::Null));
    assert_eq!(without.status.code(), Some(0), "nothing is offloaded");
    let file = folder.path().join("prices.json").display().to_string();
    for (more, part) in [
        (format!("--offload {} --prices {file}", folder.path().display()), "remat doctor --offload"),
        ("--prices /dev/zero".to_string(), "is not a regular file"),
        ("--prices /no/such/file".to_string(), "remat doctor --json"),
    ] {
        let output = remat(&format!("plan {flags} {more}"));
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && stderr.contains(part), "{more}: {stderr}");
    }
}

/// A graph of ten million tokens takes gigabytes by itself; nobody waits for it to be told what arithmetic knows.
#[test]
fn what_is_far_out_of_reach_is_refused_before_a_graph_is_built() {
    for (flags, parts) in [
        (
            "--preset gpt2 --rank 1000000000 --memory 16GiB",
            ["--rank 1000000000: adapters of that rank alone take", "16384 MiB"],
        ),
        (
            "--preset llama-3.1-8b --method qlora --batch-size 10000 --memory 16GiB",
            ["--batch-size 10000: ", "16384 MiB"],
        ),
        (
            "--preset gpt2 --rank 9223372036854775807 --batch-size 9223372036854775807",
            ["--rank 9223372036854775807", "MiB"],
        ),
        // No process has what a setting may allow.
        (
            "--preset gpt2 --batch-size 4611686018427387904 --memory 18446744073709551615",
            ["--batch-size 4611686018427387904: ", "a process can have 134217728 MiB"],
        ),
        (
            "--preset gpt2 --rank-pattern c_attn=9007199254740992 --memory 16GiB",
            ["--rank-pattern 9007199254740992: adapters of that rank alone take", "16384 MiB"],
        ),
    ] {
        let output = remat(&format!("plan {flags}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(3), "{flags}: {stderr}");
        assert!(parts.iter().all(|part| stderr.contains(part)) && output.stdout.is_empty(), "{flags}: {stderr}");
    }
    // What is merely too large gets a plan that says by how much.
    let output = remat("plan --preset gpt2 --seq-len 64 --rank 50000 --memory 16GiB");
    assert!(String::from_utf8_lossy(&output.stdout).starts_with("does not fit: "), "{output:?}");
}

/// At the edge of what numbers hold, with memory that would allow anything: planned, or refused by name.
#[test]
fn every_size_is_planned_or_refused_by_name() {
    let counts = ["batch-size", "rank", "seq-len", "steps", "grad-accum", "save-every", "save-total-limit", "threads"];
    let edges = ["4611686018427387904", "18446744073709551615"];
    let all = counts.iter().flat_map(|key| edges.map(|edge| format!("--{key} {edge}")));
    let patterns = edges.map(|edge| format!("--rank-pattern c_attn={edge}"));
    for flag in all.chain(patterns) {
        let memory = if flag.starts_with("--grad-accum") { "1MiB" } else { "18446744073709551615" };
        let default = if flag.starts_with("--seq-len") { "" } else { "--seq-len 16" };
        let output = remat(&format!("plan --preset gpt2 {default} --memory {memory} {flag}"));
        let stderr = String::from_utf8_lossy(&output.stderr);
        let named = stderr.contains(flag.split([' ', '=']).next().expect("a key"));
        match output.status.code() {
            Some(0) => {}
            Some(2 | 3) if stderr.is_empty() || named => {}
            code => panic!("{flag}: {code:?}: {stderr}"),
        }
    }
}

#[test]
fn a_preset_is_planned_in_the_format_it_is_published_in() {
    let page = |flags: &str| {
        String::from_utf8_lossy(&remat(&format!("plan --seq-len 16 --batch-size 1 {flags}")).stdout).into_owned()
    };
    let plain = page("--preset llama-160m --isa portable");
    assert!(plain.contains(" parameters, f32\n"), "{plain}");
    let narrow = page("--preset tinyllama-1.1b --isa portable");
    assert!(narrow.contains(" parameters, f32 (stored in bf16)\n"), "{narrow}");
    let asked = page("--preset tinyllama-1.1b --precision bf16");
    assert!(asked.contains(" parameters, bf16\n"), "{asked}");
    let sizes = ["3gib", "3G", "3221225472"].map(|size| plan(&format!("--preset gpt2 --seq-len 16 --memory {size}")).0);
    assert!(sizes.iter().all(|plan| plan["budget_bytes"] == 3_u64 << 30));
    let (decimal, _) = plan("--preset gpt2 --seq-len 16 --memory 3GB");
    assert_eq!(decimal["budget_bytes"], 3_000_000_000_u64);
}

/// Every rank is planned as one process is, and the exchange beside it.
#[test]
fn several_ranks_are_planned_from_shapes() {
    let flags = "--preset gpt2 --seq-len 64 --memory 64GiB --threads 1 --grad-accum 6";
    let (alone, _) = plan(flags);
    assert!(alone["ranks"].is_null());
    let of = |more: &str| {
        let (planned, code) = plan(&format!("{flags} {more}"));
        assert_eq!(code, Some(0));
        planned
    };
    let planned = of("--ranks 4 --hosts 2 --link 1Gbit/s");
    let ranks = &planned["ranks"];
    assert_eq!((&ranks["ranks"], &ranks["hosts"], &ranks["rounds"]), (&4.into(), &2.into(), &2.into()));
    // Rank 0 has two micro-batches: it sends three quarters of the gradients for each, then its quarter of the parameters to three;
    // shards are as even as blocks allow, and a few sums come on top.
    let gradient_bytes = 4 * bytes(&planned["trained_parameters"]);
    let is_about = |bytes: u64, expected: u64| bytes.abs_diff(expected) < expected / 100;
    assert!(is_about(bytes(&ranks["sent_bytes"]), 2 * gradient_bytes / 4 * 3 + 3 * gradient_bytes / 4), "{ranks}");
    // A host sends half of each gradient of its ranks to the other, four of six, and half of the parameters.
    assert!(is_about(bytes(&ranks["link_bytes"]), 4 * gradient_bytes / 2 + gradient_bytes), "{ranks}");
    // Of the sums and of both moments a rank keeps a quarter.
    let peak = bytes(&planned["peak_bytes"]);
    assert_eq!(bytes(&ranks["host_peak_bytes"]), 2 * peak);
    assert!(peak + 2 * gradient_bytes < bytes(&alone["peak_bytes"]), "{peak}");
    let seconds = |planned: &Value| planned["ranks"]["exchange_seconds"].as_f64().expect("seconds");
    assert!(seconds(&of("--ranks 4 --hosts 2 --link 10Gbit/s")) < seconds(&planned) / 5.0);
    assert!(ranks["advice"][0].as_str().is_some_and(|advice| advice.contains("--grad-accum 8")), "{}", ranks["advice"]);
    let page =
        String::from_utf8(remat(&format!("plan {flags} --ranks 4 --hosts 2 --link 1Gbit/s")).stdout).expect("text");
    assert!(page.contains("ranks     4 on 2 hosts") && page.contains("exchange  "), "{page}");
    for (wrong, why) in [
        ("--ranks 0", "at least 1"),
        ("--ranks 2 --hosts 2", "what joins them"),
        ("--ranks 2 --hosts 3 --link 1GB/s", "from 1 to"),
    ] {
        let refused = remat(&format!("plan {flags} {wrong}"));
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains(why), "{wrong}");
    }
}
