//! A resumed run is the uninterrupted one, byte for byte, whatever happened in between.

use crate::command::{Train, text};
use std::fs;
use std::path::Path;

const LORA: &str = "--method lora --rank 4 --dropout 0.1 --steps 7 --batch-size 2 --grad-accum 3 --warmup 2 \
                    --seq-len 24 --lr 1e-2 --quiet";
const FULL: &str = "--method full --steps 5 --batch-size 3 --grad-accum 2 --schedule cosine --seq-len 24 --quiet";

const OF_ONE_RUN: [&str; 7] = [
    "metrics.jsonl",
    "events.out.tfevents.remat",
    "config.toml",
    "manifest.json",
    "record.json",
    "record.md",
    "report.html",
];

/// Names and bytes of everything in a folder that a resumed run has to have in common with the whole one.
fn contents(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<(String, Vec<u8>)> = fs::read_dir(folder)
        .expect("exists")
        .flatten()
        .filter(|entry| entry.path().is_file())
        .map(|entry| (entry.file_name().into_string().expect("utf-8"), fs::read(entry.path()).expect("readable")))
        // The times in metrics.jsonl, the events, the record and the report, and out, threads and saves in config.toml (and so the manifest),
        // differ rightly.
        .filter(|(name, _)| !OF_ONE_RUN.contains(&name.as_str()))
        .collect();
    files.sort_unstable();
    files
}

fn assert_same(whole: &Train, resumed: &Train, save: &str) {
    for key in ["step", "epoch", "loss", "lr", "grad_norm", "tokens"] {
        assert_eq!(whole.metrics(key), resumed.metrics(key), "{key}");
    }
    let best = whole.out().join("best").exists().then_some("best");
    assert_eq!(resumed.out().join("best").exists(), best.is_some());
    for folder in ["", save].into_iter().chain(best) {
        let (whole, resumed) = (contents(&whole.out().join(folder)), contents(&resumed.out().join(folder)));
        let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&whole), names(&resumed));
        for ((name, whole), (_, resumed)) in whole.iter().zip(&resumed) {
            assert!(whole == resumed, "{folder}/{name} differs");
        }
    }
}

/// Stops a run after the save of update `at` by taking everything away that came later, as a power cut would.
fn cut_off(train: &Train, at: u64) {
    for entry in fs::read_dir(train.out()).expect("exists").flatten() {
        let name = entry.file_name().into_string().expect("utf-8");
        match name.strip_prefix("checkpoint-").and_then(|step| step.parse::<u64>().ok()) {
            Some(step) if step > at => fs::remove_dir_all(entry.path()).expect("removed"),
            Some(_) => {}
            None if ["metrics.jsonl", "samples.jsonl", "config.toml", "best"].contains(&name.as_str()) => {}
            None => fs::remove_file(entry.path()).expect("removed"),
        }
    }
}

fn resumes(flags: &str, last: &str, at: u64, resume_flags: &str) {
    let whole = Train::on("llama-gqa-tied", &format!("{flags} --save-every 1 --threads 2")).finish().train;
    let resumed = Train::on("llama-gqa-tied", &format!("{flags} --save-every 1 --threads 2")).finish().train;
    cut_off(&resumed, at);
    let output = resumed.resume(resume_flags);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_same(&whole, &resumed, last);
}

#[test]
fn lora_resumes_exactly() {
    resumes(LORA, "checkpoint-7", 3, "");
}

/// `best/` may be of an evaluation after the save, and samples were made that are to be made again.
#[test]
fn the_best_early_stopping_and_samples_resume_exactly() {
    let held_out = crate::command::fixtures().join("tiny/text.jsonl");
    let flags = format!(
        "{LORA} --eval-every 1 --early-stop 4 --sample Once --sample The --sample-every 3 --sample-tokens 6 --eval-data {}",
        held_out.display()
    );
    let whole = Train::on("llama-gqa-tied", &format!("{flags} --save-every 1 --threads 2")).finish().train;
    let last = *whole.metrics("step").last().expect("updates") as u64;
    assert!(last < 7, "patience ends before the last update");
    for at in [1, 3, last - 1] {
        let resumed = Train::on("llama-gqa-tied", &format!("{flags} --save-every 1 --threads 2")).finish().train;
        cut_off(&resumed, at);
        let output = resumed.resume("--threads 1");
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert_same(&whole, &resumed, &format!("checkpoint-{last}"));
        assert!(
            text(&output.stderr).contains(&format!("stopped after {last} of 7 updates")),
            "{}",
            text(&output.stderr)
        );
    }
}

#[test]
fn with_other_threads_and_another_policy_too() {
    resumes(LORA, "checkpoint-7", 4, "--threads 1 --checkpointing full");
}

#[test]
fn bf16_resumes_exactly() {
    resumes(&format!("{LORA} --precision bf16"), "checkpoint-7", 3, "--threads 1 --checkpointing full");
    resumes(&format!("{FULL} --precision bf16"), "checkpoint-5", 2, "");
}

#[test]
fn moments_of_8_bits_resume_exactly() {
    resumes(&format!("{FULL} --optimizer adamw8bit"), "checkpoint-5", 2, "--threads 1");
}

#[test]
fn full_fine_tuning_resumes_exactly() {
    resumes(FULL, "checkpoint-5", 2, "--threads 3");
}

#[test]
fn a_run_started_from_an_adapter_resumes_from_its_save_alone() {
    let adapter = crate::command::case("llama-gqa-tied").join("adapter");
    let flags = |adapter: &Path| {
        format!("--init-adapter {} --steps 4 --batch-size 2 --save-every 2 --seq-len 24 --quiet", adapter.display())
    };
    let whole = Train::on("llama-gqa-tied", &flags(&adapter)).finish().train;
    let copy = tempfile::tempdir().expect("folder");
    for name in ["adapter_config.json", "adapter_model.safetensors"] {
        fs::copy(adapter.join(name), copy.path().join(name)).expect("copied");
    }
    let resumed = Train::on("llama-gqa-tied", &flags(copy.path())).finish().train;
    drop(copy);
    cut_off(&resumed, 2);
    let output = resumed.resume("");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_same(&whole, &resumed, "checkpoint-4");
}

/// Rows that a run kept spare the one that goes on a scan of the data, and decide nothing else.
#[test]
fn kept_rows_are_taken_only_as_they_were() {
    let flags = format!("{LORA} --save-every 2 --threads 2");
    let whole = Train::on("llama-gqa-tied", &flags).finish().train;
    let kept = fs::read(whole.out().join("rows.bin")).expect("there are saves to go on from");
    let other = Train::on("llama-gqa-tied", &format!("{flags} --train-on all")).finish().train;
    let flip = |at: usize| kept.iter().enumerate().map(|(i, &byte)| byte ^ u8::from(i == at)).collect::<Vec<u8>>();
    let others = fs::read(other.out().join("rows.bin")).expect("kept");
    for (what, rows, is_taken) in [
        ("as it was", kept.clone(), true),
        ("another token", flip(8), false),
        ("another length", flip(kept.len() - 24), false),
        ("cut", kept[..kept.len() - 1].to_vec(), false),
        ("empty", Vec::new(), false),
        ("of other settings", others, false),
    ] {
        let resumed = Train::on("llama-gqa-tied", &flags).finish().train;
        cut_off(&resumed, 4);
        fs::write(resumed.out().join("rows.bin"), rows).expect("written");
        let output = resumed.resume("");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{what}: {stderr}");
        assert_eq!(stderr.contains("as rows.bin has them"), is_taken, "{what}: {stderr}");
        assert_same(&whole, &resumed, "checkpoint-6");
    }
}

#[test]
fn rows_are_kept_as_long_as_a_run_can_go_on_with_them() {
    let finished = Train::on("llama-gqa-tied", LORA).finish().train;
    assert!(!finished.out().join("rows.bin").exists(), "nothing was saved");
}

#[test]
fn a_torn_save_is_skipped_with_a_note_for_the_one_before() {
    let flags = format!("{LORA} --save-every 2");
    let whole = Train::on("llama-gqa-tied", &flags).finish().train;
    let resumed = Train::on("llama-gqa-tied", &flags).finish().train;
    cut_off(&resumed, 4);
    let torn = resumed.out().join("checkpoint-4/optimizer.safetensors");
    let bytes = fs::read(&torn).expect("readable");
    fs::write(&torn, &bytes[..bytes.len() - 1]).expect("written");
    let output = resumed.resume("");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("checkpoint-4 is not complete"), "{stderr}");
    assert_same(&whole, &resumed, "checkpoint-7");
}

#[test]
fn only_so_many_saves_are_kept() {
    let train = Train::on("llama-gqa-tied", &format!("{LORA} --save-every 2 --save-total-limit 2")).finish().train;
    let mut saves: Vec<String> = fs::read_dir(train.out())
        .expect("exists")
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with("checkpoint"))
        .collect();
    saves.sort_unstable();
    assert_eq!(saves, ["checkpoint-6", "checkpoint-7"]);
}

#[test]
fn what_would_change_the_result_is_refused() {
    let train = Train::on("llama-gqa-tied", &format!("{LORA} --save-every 4")).finish().train;
    for (flags, key) in [("--lr 0.5", "--lr"), ("--seed 1", "--seed"), ("--batch-size 1", "--batch-size")] {
        let output = train.resume(flags);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{stderr}");
        assert!(stderr.contains(key) && stderr.contains("would change the result"), "{stderr}");
    }
    let rows = train.folder.path().join("other.jsonl");
    fs::write(&rows, "{\"input_ids\": [1, 2, 3]}\n").expect("written");
    let output = train.resume(&format!("--data {}", rows.display()));
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{stderr}");
    assert!(stderr.contains("the saved data position does not fit"), "{stderr}");
}

#[test]
fn a_finished_run_goes_on_when_given_more_steps() {
    let constant = "--method lora --rank 4 --schedule constant --batch-size 2 --seq-len 24 --save-every 3 --quiet";
    let whole = Train::on("gpt2", &format!("{constant} --steps 6")).finish().train;
    let longer = Train::on("gpt2", &format!("{constant} --steps 3")).finish().train;
    let output = longer.resume("--steps 6");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_same(&whole, &longer, "checkpoint-6");
}

#[test]
fn a_damaged_newest_save_costs_none_of_the_others() {
    let flags = "--method lora --rank 4 --batch-size 2 --seq-len 24 --save-every 1 --schedule constant --quiet";
    let train = Train::on("llama-gqa-tied", &format!("{flags} --steps 2")).finish().train;
    let later = train.out().join("checkpoint-9");
    fs::create_dir(&later).expect("created");
    fs::copy(train.out().join("checkpoint-2/manifest.json"), later.join("manifest.json")).expect("copied");
    let output = train.resume("--steps 4 --save-total-limit 1");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("checkpoint-9 is not complete") && stderr.contains("not counted"), "{stderr}");
    let kept = |step: u64| train.out().join(format!("checkpoint-{step}/manifest.json")).exists();
    assert_eq!([1, 2, 3, 4, 9].map(kept), [false, false, false, true, true], "{stderr}");
    assert_eq!(train.resume("--steps 5").status.code(), Some(0));
}

#[test]
fn leftovers_of_a_run_that_is_gone_are_swept_at_the_start() {
    let flags = "--method lora --rank 4 --batch-size 2 --seq-len 24 --save-every 1 --schedule constant --quiet";
    let train = Train::on("llama-gqa-tied", &format!("{flags} --steps 1")).finish().train;
    fs::create_dir(train.out().join("checkpoint-7.tmp-4294967295")).expect("created");
    fs::write(train.out().join(".remat-4294967295-3.tmp"), "half").expect("written");
    assert_eq!(train.resume("").status.code(), Some(0));
    let names = fs::read_dir(train.out()).expect("a folder").flatten().map(|entry| entry.file_name());
    assert!(names.into_iter().all(|name| !name.to_string_lossy().contains("tmp")));
}

#[test]
fn settings_that_were_cut_are_noticed() {
    let flags =
        "--method lora --rank 4 --batch-size 2 --seq-len 24 --save-every 1 --schedule constant --steps 1 --quiet";
    let train = Train::on("llama-gqa-tied", flags).finish().train;
    let path = train.out().join("config.toml");
    let whole = text(&fs::read(&path).expect("readable"));
    let lines: Vec<&str> = whole.split_inclusive('\n').collect();
    for kept in [0, 5, lines.len() - 1] {
        fs::write(&path, lines[..kept].concat()).expect("written");
        let output = train.resume("");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{kept} lines: {stderr}");
        assert!(
            stderr.contains("config.toml: was cut")
                && stderr.contains("checkpoint-1/config.toml is whole: copy it here"),
            "{stderr}"
        );
    }
    // The remedy is one.
    fs::copy(train.out().join("checkpoint-1/config.toml"), &path).expect("copied");
    assert_eq!(train.resume("--steps 2").status.code(), Some(0));
}

#[test]
fn a_log_that_was_cut_is_said_and_goes_on() {
    let flags =
        "--method lora --rank 4 --batch-size 2 --seq-len 24 --save-every 3 --schedule constant --steps 3 --quiet";
    let train = Train::on("llama-gqa-tied", flags).finish().train;
    let path = train.out().join("metrics.jsonl");
    let whole = text(&fs::read(&path).expect("readable"));
    fs::write(&path, whole.lines().next().expect("a line").to_string() + "\n").expect("written");
    let output = train.resume("--steps 4");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("metrics.jsonl holds 1 of the 3 updates"), "{stderr}");
    assert_eq!(train.metrics("step"), [1.0, 4.0]);
}

/// Kept by default: the state of adapters is small.
#[test]
fn a_finished_run_of_adapters_can_be_made_longer_and_says_what_becomes_of_its_rates() {
    let flags =
        "--method lora --rank 4 --batch-size 2 --seq-len 24 --grad-accum 1 --lr 1e-2 --schedule linear --warmup 0.25";
    let train = Train::on("gpt2", &format!("{flags} --epochs 0.5")).finish().train;
    let half = train.metrics("lr").len() as u64;
    let output = train.resume("--epochs 1");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    let rates = train.metrics("lr");
    let whole = rates.len() as u64;
    assert!(whole == 2 * half || whole + 1 == 2 * half, "{half} then {whole}");
    let note = format!(
        "the run was begun with {half} updates and now has {whole}: its learning rates are those of the linear"
    );
    assert!(stderr.contains(&note), "{stderr}");
    let warmup = (whole as f64 * 0.25).ceil();
    for (update, rate) in rates.iter().enumerate().skip(half as usize) {
        let expected = 1e-2 * (whole as f64 - update as f64) / (whole as f64 - warmup);
        assert!((rate - expected).abs() < 1e-9, "update {update}: {rate}, not {expected}");
    }
    let quiet = train.resume("--quiet");
    let stderr = text(&quiet.stderr);
    assert!(quiet.status.success() && !stderr.contains("learning rates"), "nothing changes now: {stderr}");
}

#[test]
fn a_run_without_a_whole_save_starts_from_the_beginning_and_says_so() {
    let flags = "--method lora --rank 4 --batch-size 2 --seq-len 24 --steps 2 --save-every 2 --quiet";
    let whole = Train::on("gpt2", flags).finish().train;
    let killed = Train::on("gpt2", flags).finish().train;
    cut_off(&killed, 0);
    let output = killed.resume("");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("holds no complete checkpoint-N: the run starts from the beginning"), "{stderr}");
    assert_same(&whole, &killed, "checkpoint-2");
    // A script that always says --resume, before there is a folder.
    let first = Train::on("gpt2", flags);
    let output = first.command("--resume").output().expect("the binary runs");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    assert!(stderr.contains("holds no run to resume: this one starts from the beginning"), "{stderr}");
    assert_same(&whole, &first, "checkpoint-2");
}

#[test]
fn a_run_keeps_the_number_format_that_auto_was() {
    let flags = "--method lora --rank 4 --batch-size 2 --seq-len 24 --steps 2 --save-every 1 --isa portable --quiet";
    let train = Train::on("llama-f16", flags).finish().train;
    assert!(text(&train.bytes("config.toml")).contains("precision = \"f32\""), "portable arithmetic has no bf16");
    for (flags, code) in [("--precision auto", 0), ("--precision f32", 0), ("--precision bf16", 2)] {
        let output = train.resume(flags);
        assert_eq!(output.status.code(), Some(code), "{flags}: {}", text(&output.stderr));
    }
}

/// As one that was killed between its last save and the removal of the save before leaves two.
#[test]
fn a_run_that_is_done_lets_surplus_saves_go_when_it_is_resumed() {
    let train = Train::on("llama-gqa-tied", "--method lora --rank 4 --steps 4 --save-every 2 --quiet").finish().train;
    assert!(train.out().join("checkpoint-2").exists());
    let output = train.resume("--save-total-limit 1");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(!train.out().join("checkpoint-2").exists() && train.out().join("checkpoint-4").exists());
}
