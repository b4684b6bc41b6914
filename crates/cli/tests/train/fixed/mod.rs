//! Sixteen training runs whose results are known to the byte, and an old run folder that is gone on with.
//!
//! Every method and number format, kept and recomputed, with what else changes a step: dropout, packing, lengths,
//! accumulation, held-out rows, 8-bit moments. `results.json` holds, per instruction set, the SHA-256 of the result and
//! of the optimizer's state in the last save, and every loss. Invariant: a change that means to keep what a run computes
//! keeps this file; neither paths, threads nor the plan are in a hash. A change that means to alter results records
//! anew, and the diff of the file says which:
//! `REMAT_RECORD=1 cargo test -p remat-cli --test train fixed::`. Levels that the recording machine lacks keep their
//! lines, and have to be recorded on one that has them.
//!
//! A few logarithms, sines and exponentials are the C library's, so the file is of one platform.
#![cfg(all(target_arch = "x86_64", target_os = "linux", target_env = "gnu"))]

mod results;

use crate::command::{Train, case, fixtures, remat, text};
use results::Observed;
use serde_json::Value;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// One of the sixteen.
struct Run {
    name: &'static str,
    model: &'static str,
    rows: Rows,
    flags: &'static str,
    memory: Memory,
}

enum Rows {
    /// Rows of two lengths, so that short batches get plans of their own.
    TwoLengths,
    /// The model's own, of nearly one length.
    OfCase,
    /// Prompts and completions, through the tokenizer.
    Text,
}

enum Memory {
    /// Flags that decide by themselves what is recomputed.
    Named(&'static str),
    /// `auto` half-way between what `plan` says of keeping all and of recomputing all, on this machine.
    HalfWay,
}

use Memory::{HalfWay, Named};
use Rows::{OfCase, Text, TwoLengths};

/// After a model's name: a copy of it whose own dropout is that of GPT-2's releases.
const OWN_DROPOUT: &str = ", own dropout";

const KEEP: Memory = Named("--checkpointing none");

const fn run(name: &'static str, model: &'static str, rows: Rows, memory: Memory, flags: &'static str) -> Run {
    Run { name, model, rows, flags, memory }
}

/// Of what a budget recomputes prices decide; below 340 MiB beside the program none are measured for it.
#[rustfmt::skip]
const RUNS: [Run; 16] = [
    run("lora-f32", "llama-gqa-tied", TwoLengths, KEEP,
        "--method lora --precision f32 --batch-size 2 --grad-accum 3 --dropout 0.1"),
    run("lora-f32-limit", "gpt2, own dropout", TwoLengths, Named("--checkpointing full"),
        "--method lora --precision f32 --batch-size 2 --grad-accum 2 --packing --seq-len 64"),
    run("lora-bf16", "qwen2", Text, KEEP,
        "--method lora --precision bf16 --batch-size 2 --grad-accum 2 --packing --seq-len 64 \
         --targets q_proj,v_proj,up_proj --eval"),
    run("lora-bf16-limit", "mistral", OfCase, HalfWay,
        "--method lora --precision bf16 --batch-size 192 --grad-accum 1 --dropout 0.2"),
    run("nf4-f32", "llama-rope3-bias", OfCase, KEEP,
        "--method qlora --precision f32 --batch-size 3 --grad-accum 1 --schedule cosine --warmup 2"),
    run("nf4-f32-limit", "gpt2", TwoLengths, Named("--checkpointing every:2"),
        "--method qlora --precision f32 --batch-size 1 --grad-accum 4"),
    run("nf4-bf16", "qwen3", TwoLengths, KEEP,
        "--method qlora --precision bf16 --batch-size 2 --grad-accum 2 --no-shuffle --eval"),
    run("nf4-bf16-limit", "llama-gqa-tied", TwoLengths, HalfWay,
        "--method qlora --precision bf16 --batch-size 20 --grad-accum 1 --packing --seq-len 128 --dropout 0.1"),
    run("int8-f32", "qwen2", OfCase, KEEP,
        "--method qlora --quant int8 --precision f32 --batch-size 2 --grad-accum 2 --weight-decay 0.1 --clip 0"),
    run("int8-f32-limit", "llama-f16", TwoLengths, Named("--checkpointing every:1"),
        "--method qlora --quant int8 --precision f32 --batch-size 2 --grad-accum 2 --packing --seq-len 64 --dropout 0.1"),
    run("int8-bf16", "mistral", TwoLengths, KEEP,
        "--method qlora --quant int8 --precision bf16 --batch-size 1 --grad-accum 3"),
    run("int8-bf16-limit", "gpt2", Text, Named("--checkpointing full"),
        "--method qlora --quant int8 --precision bf16 --batch-size 2 --grad-accum 2 --eval --seq-len 48"),
    run("full-f32", "gpt2", OfCase, KEEP,
        "--method full --precision f32 --batch-size 3 --grad-accum 2 --optimizer adamw8bit"),
    run("full-f32-limit", "llama-rope3-bias", TwoLengths, Named("--checkpointing budget:160KiB --memory 250MiB"),
        "--method full --precision f32 --batch-size 1 --grad-accum 3 --schedule constant --weight-decay 0.01"),
    run("full-bf16", "llama-gqa-tied", TwoLengths, KEEP,
        "--method full --precision bf16 --batch-size 2 --grad-accum 2 --optimizer adamw8bit --packing \
         --seq-len 96 --eval"),
    run("full-bf16-limit", "gpt2, own dropout", OfCase, HalfWay,
        "--method full --precision bf16 --batch-size 112 --grad-accum 1 --optimizer adamw8bit"),
];

/// The folder of what was recorded.
fn tests() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/train/fixed")
}

/// Updates of each run, and the number of its last save.
const STEPS: u64 = 3;

impl Run {
    /// The run at a level; what does not change a result differs from run to run.
    fn observe(&self, index: usize, level: &str) -> Observed {
        let threads = 1 + index % 3;
        let folder = tempfile::tempdir().expect("temporary folder");
        let model = self.model(folder.path());
        let data = self.data(folder.path());
        let eval = format!("--eval-every 2 --eval-data {}", fixtures().join("tiny/text.jsonl").display());
        let flags = self.flags.replace("--eval", &eval);
        let flags = if flags.contains("--method full") { flags } else { format!("{flags} --rank 4") };
        let all = format!("--steps {STEPS} --save-every {STEPS} --lr 1e-2 --json --isa {level} --threads {threads}");
        let memory = match self.memory {
            Named(memory) => memory.to_string(),
            HalfWay => half_way(&model, &data, &self.flags.replace("--eval", "")),
        };
        let finished = Train::on("gpt2", &format!("{all} {flags} {memory}")).model(&model).data(&data).finish();
        let planned: Value = serde_json::from_str(finished.stdout.lines().next().expect("an event")).expect("JSON");
        let recomputed = planned["recomputed_steps"].as_u64().expect("a count");
        assert_eq!(recomputed > 0, self.name.ends_with("-limit"), "{}: {recomputed} recomputed steps", self.name);
        Observed::of(&finished.train.out(), STEPS)
    }

    /// The model's folder: a fixture, or a copy of it with dropout.
    fn model(&self, folder: &Path) -> PathBuf {
        let Some(name) = self.model.strip_suffix(OWN_DROPOUT) else { return case(self.model) };
        let fixture = case(name);
        for name in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
            fs::copy(fixture.join(name), folder.join(name)).expect("copied");
        }
        let config = fs::read_to_string(folder.join("config.json")).expect("readable");
        let config = config.replace("pdrop\": 0.0", "pdrop\": 0.1");
        fs::write(folder.join("config.json"), config).expect("written");
        folder.to_path_buf()
    }

    /// The file of rows.
    fn data(&self, folder: &Path) -> PathBuf {
        match self.rows {
            OfCase => case(self.model.trim_end_matches(OWN_DROPOUT)).join("rows.jsonl"),
            Text => fixtures().join("tiny/data.jsonl"),
            TwoLengths => two_lengths(folder),
        }
    }
}

/// 240 rows, three quarters of 7 to 12 tokens, the rest of 33 to 38; the first tokens of each are not trained on.
fn two_lengths(folder: &Path) -> PathBuf {
    let mut lines = String::new();
    for row in 0..240_usize {
        let tokens = if row % 4 == 3 { 33 + row % 6 } else { 7 + row % 6 };
        let ids: Vec<i64> = (0..tokens).map(|token| (row * 31 + token * 7) as i64 % 120 + 1).collect();
        let labels: Vec<i64> = ids.iter().enumerate().map(|(at, &id)| if at < row % 5 { -100 } else { id }).collect();
        writeln!(lines, "{{\"input_ids\": {ids:?}, \"labels\": {labels:?}}}").expect("a string");
    }
    let path = folder.join("two-lengths.jsonl");
    fs::write(&path, lines).expect("written");
    path
}

/// `--memory` half-way between the peaks of keeping and of recomputing everything, as this machine's `plan` says.
fn half_way(model: &Path, data: &Path, flags: &str) -> String {
    let peak = |policy: &str| {
        let mut plan = remat(["plan", "--json", "--memory", "1TiB", "--checkpointing", policy]);
        plan.args(flags.split_whitespace()).arg("--model").arg(model).arg("--data").arg(data);
        let output = plan.output().expect("the binary runs");
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)));
        plan["peak_bytes"].as_u64().expect("a size")
    };
    let (most, least) = (peak("none"), peak("full"));
    // What a process holds beside its plan differs by a megabyte or two from one to the next.
    assert!(least + (8 << 20) < most, "the run needs room between {least} and {most}");
    format!("--memory {}", (least + most) / 2)
}

/// Runs the sixteen at a level, if this machine has it; where a limit decides, the plainest level says enough.
fn hold(level: &str) {
    if !is_available(level) {
        return;
    }
    let all = RUNS.iter().enumerate();
    let asked = all.filter(|(_, run)| level == "portable" || !matches!(run.memory, HalfWay));
    let observed: Vec<_> = asked.map(|(index, run)| (run.name, run.observe(index, level))).collect();
    results::hold(level, &observed);
}

/// Whether this machine has a level, as the binary says.
fn is_available(level: &str) -> bool {
    let train = Train::on("llama-gqa-tied", "--steps 1 --quiet");
    let output = train.command(&format!("--isa {level}")).output().expect("the binary runs");
    let lacks = output.status.code() == Some(2) && text(&output.stderr).contains("an instruction set of this machine");
    assert!(lacks || output.status.success(), "{}", text(&output.stderr));
    assert!(!lacks || level != "portable");
    !lacks
}

#[test]
fn portable_results_are_those_recorded() {
    hold("portable");
}

#[test]
fn avx2_results_are_those_recorded() {
    hold("avx2");
}

#[test]
fn avx512_results_are_those_recorded() {
    hold("avx512");
}

#[test]
fn avx512_bf16_results_are_those_recorded() {
    hold("avx512-bf16");
}

/// Three of six updates of QLoRA in bf16 on rows of several lengths, with dropout, accumulation, held-out rows and a
/// schedule, saved by the program as it was when this test was written.
#[test]
fn an_old_run_goes_on_to_the_recorded_result() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let (old, out) = (tests().join("old-run"), folder.path().join("run"));
    copy_folder(&old, &out);
    let mut command = remat(["train", "--resume", "--quiet", "--out"]);
    // Its settings name model and rows from the repository's root.
    let output = command.arg(&out).current_dir(fixtures().join("..")).output().expect("the binary runs");
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    results::hold("portable", &[("old-run", Observed::of(&out, 6))]);
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir(to).expect("created");
    for entry in fs::read_dir(from).expect("readable").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
