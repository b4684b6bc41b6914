//! Settings: flags over files, methods, targets, kinds of rows, and what the run folder says of them.

use crate::command::{Train, copied, fixtures, remat, text};
use std::fs;

#[test]
fn a_file_of_settings_is_the_same_as_flags() {
    let flags = "--method lora --rank 4 --steps 3 --batch-size 2 --seq-len 24 --lr 1e-2 --quiet";
    let by_flags = Train::on("gpt2", flags).finish().train;
    let by_file = Train::on("gpt2", "--quiet --rank 4");
    let file = by_file.folder.path().join("run.toml");
    fs::write(&file, "method = \"lora\"\nrank = 99\nsteps = 3\nbatch_size = 2\nseq-len = 24\nlr = 1e-2\n")
        .expect("written");
    let output = by_file.command(&format!("--config {}", file.display())).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(by_flags.bytes("adapter_model.safetensors") == by_file.bytes("adapter_model.safetensors"));
    let without_out = |train: &Train| {
        let text = text(&train.bytes("config.toml"));
        text.lines().filter(|line| !line.starts_with("out =")).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!(without_out(&by_flags), without_out(&by_file));
}

#[test]
fn every_kind_of_row_and_packing_trains() {
    for (rows, packing) in [("tiny/data.jsonl", ""), ("tiny/text.jsonl", "--packing"), ("tiny/data.jsonl", "--packing")]
    {
        let flags =
            format!("--method lora --rank 4 --epochs 2 --batch-size 2 --seq-len 64 --lr 5e-3 {packing} --quiet");
        let train = Train::on("llama-gqa-tied", &flags).data(&fixtures().join(rows)).finish().train;
        let losses = train.metrics("loss");
        assert!(losses.last() < losses.first(), "{rows} {packing}: {losses:?}");
    }
}

#[test]
fn targets_choose_the_adapters() {
    let header = |targets: &str| {
        let flags = format!("--method lora --rank 2 --steps 1 --batch-size 2 --targets {targets}");
        let finished = Train::on("llama-gqa-tied", &flags).finish();
        let bytes = finished.train.bytes("adapter_model.safetensors");
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        text(&bytes[8..8 + length])
    };
    let names = header("q_proj,v_proj");
    assert!(names.contains("q_proj.lora_A") && names.contains("v_proj.lora_B"), "{names}");
    assert!(!names.contains("k_proj") && !names.contains("down_proj"), "{names}");
    let pattern = header(r".*\.0\.mlp\.(up|down)_proj");
    assert!(pattern.contains("layers.0.mlp.up_proj") && !pattern.contains("layers.1"), "{pattern}");
}

#[test]
fn a_fully_trained_model_is_a_model_folder() {
    let flags = "--method full --steps 2 --batch-size 2 --seq-len 24 --quiet";
    let first = Train::on("llama-rope3-bias", flags).finish().train;
    let second = Train::on("llama-rope3-bias", flags).model(&first.out()).finish().train;
    let (before, after) = (first.metrics("loss"), second.metrics("loss"));
    assert!(after[0] < before[0], "training goes on from the trained model: {before:?} then {after:?}");
}

#[test]
fn an_adapter_is_a_start_for_the_next_run() {
    let flags = "--method lora --rank 4 --steps 2 --batch-size 2 --seq-len 24 --lr 5e-3 --no-shuffle --quiet";
    let first = Train::on("gpt2", flags).finish().train;
    let again = flags.replace("--rank 4", &format!("--init-adapter {}", first.out().display()));
    let second = Train::on("gpt2", &again).finish().train;
    assert!(second.metrics("loss")[0] < first.metrics("loss")[0]);
    assert!(text(&second.bytes("config.toml")).contains("rank = 4"), "the adapter's rank is the run's");
}

#[test]
fn an_instruction_set_can_be_forced() {
    let flags = "--steps 3 --batch-size 2 --seq-len 24 --lr 5e-3 --no-shuffle --quiet";
    let strongest = Train::on("gpt2", flags).finish().train;
    let portable = Train::on("gpt2", &format!("{flags} --isa portable")).finish().train;
    let record: serde_json::Value = serde_json::from_slice(&portable.bytes("record.json")).expect("JSON");
    assert_eq!(record["machine"]["isa"], "portable");
    for (a, b) in portable.metrics("loss").into_iter().zip(strongest.metrics("loss")) {
        assert!((a - b).abs() < 1e-4, "portable {a}, strongest {b}");
    }
    let refused = Train::on("gpt2", &format!("{flags} --isa sse9")).command("").output().expect("the binary runs");
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused.stderr).contains("avx512-bf16"), "{}", text(&refused.stderr));
}

#[test]
fn the_folder_survives_unless_forced() {
    let train = Train::on("gpt2", "--steps 1 --batch-size 2 --quiet").finish().train;
    let before = train.bytes("adapter_model.safetensors");
    let refused = train.command("--seed 3").output().expect("the binary runs");
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    assert!(train.bytes("adapter_model.safetensors") == before);
    let forced = train.command("--seed 3 --force").output().expect("the binary runs");
    assert_eq!(forced.status.code(), Some(0), "{}", text(&forced.stderr));
    assert!(train.bytes("adapter_model.safetensors") != before);
}

#[test]
fn quiet_is_quiet_and_stdout_is_for_data() {
    // What a folder holds besides is worth a note, whoever is quiet.
    let model = copied("gpt2");
    std::fs::remove_file(model.path().join("reference.safetensors")).expect("removed");
    let finished = Train::on("gpt2", "--steps 1 --batch-size 2 --quiet").model(model.path()).finish();
    assert_eq!((finished.stdout.as_str(), finished.stderr.as_str()), ("", ""));
    let finished = Train::on("gpt2", "--steps 1 --batch-size 2").finish();
    assert_eq!(finished.stdout, "");
    for part in ["planned peak", "measured", "1/1 · epoch", "written to"] {
        assert!(finished.stderr.contains(part), "{part} is not in\n{}", finished.stderr);
    }
    assert!(!finished.stderr.contains('\x1b'), "no colour in a pipe");
}

#[test]
fn help_and_version_are_there() {
    for arguments in [&["--help"][..], &["train", "--help"], &["--version"]] {
        let output = remat(arguments).output().expect("the binary runs");
        assert_eq!(output.status.code(), Some(0));
        assert!(!output.stdout.is_empty());
    }
    for arguments in [&[][..], &["trian"], &["train", "--rnak", "4"], &["train", "--precision", "bf16"]] {
        assert_eq!(remat(arguments).output().expect("the binary runs").status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_preset_trains_with_random_weights_on_random_rows() {
    let folder = tempfile::tempdir().expect("a folder");
    let losses: Vec<String> = ["lora", "qlora"]
        .map(|method| {
            let out = folder.path().join(method);
            let flags = format!(
                "train --preset gpt2 --precision bf16 --method {method} --rank 2 --seq-len 16 --batch-size 1 \
                 --grad-accum 1 --steps 1"
            );
            let output = remat(flags.split_whitespace()).arg("--out").arg(&out).output().expect("runs");
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(0), "{stderr}");
            assert!(stderr.contains("random weights") && stderr.contains("random tokens"), "{stderr}");
            assert!(out.join("adapter_model.safetensors").exists());
            let record = std::fs::read_to_string(out.join("record.json")).expect("a record");
            assert!(record.contains("none: random weights") && record.contains("none: made for this run"), "{record}");
            let log = std::fs::read_to_string(out.join("metrics.jsonl")).expect("a log");
            let loss = serde_json::from_str::<serde_json::Value>(&log).expect("a line")["loss"].clone();
            loss.to_string()
        })
        .into();
    for loss in losses {
        // Nothing is known of random tokens: the loss is near the logarithm of the vocabulary.
        let loss: f64 = loss.parse().expect("a number");
        assert!((loss - 50257f64.ln()).abs() < 1.0, "{loss}");
    }
}

/// A resumed run has to see the same day, or it would train on other tokens.
#[test]
fn the_day_that_a_chat_template_sees_is_a_setting_of_the_run() {
    let model = copied("llama-gqa-tied");
    let template = "{{ strftime_now('%d') }} {% for m in messages %}{{ m.content }} {% endfor %}";
    fs::write(model.path().join("chat_template.jinja"), template).expect("written");
    let rows = model.path().join("chat.jsonl");
    let row =
        r#"{"messages": [{"role": "user", "content": "the red box"}, {"role": "assistant", "content": "a box"}]}"#;
    fs::write(&rows, format!("{row}\n{row}\n")).expect("written");
    let run = |flags: &str| {
        let flags = format!("--steps 1 --batch-size 2 --grad-accum 1 --quiet --train-on all {flags}");
        Train::on("llama-gqa-tied", &flags).model(model.path()).data(&rows).finish().train
    };
    let (fifth, sixth) = (run("--chat-date 2027-01-05"), run("--chat-date 2027-01-06"));
    assert!(text(&fifth.bytes("config.toml")).contains("chat-date = \"2027-01-05\""));
    assert_ne!(fifth.metrics("loss"), sixth.metrics("loss"), "the day is in the prompt");
    let (before, today, after) = (remat_train::today(), run(""), remat_train::today());
    let settings = text(&today.bytes("config.toml"));
    assert!([before, after].iter().any(|day| settings.contains(&format!("chat-date = \"{day}\""))), "{settings}");
    let other = Train::on("llama-gqa-tied", "--steps 1 --batch-size 2 --quiet").finish().train;
    assert!(!text(&other.bytes("config.toml")).contains("chat-date"), "a template that does not ask has no day");
}
