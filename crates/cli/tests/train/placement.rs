//! Frozen weights off memory: whatever lies on the disk, the result has the same bits, also resumed, evaluated and sampled;
//! a map of modules is followed or refused with its line; the folder is left as it was.

use crate::command::{Finished, Train, case, remat, text};
use crate::prices::{self, QUICK};
use serde_json::{Value, json};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

const ADAPTER: &str = "adapter_model.safetensors";

/// A folder to offload to, and beside it a map and prices.
pub(crate) struct Disk {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) beside: tempfile::TempDir,
}

impl Disk {
    pub(crate) fn new() -> Disk {
        let new = || tempfile::tempdir().expect("temporary folder");
        Disk { folder: new(), beside: new() }
    }

    /// Flags that let weights lie as a map says.
    pub(crate) fn flags(&self, map: &str) -> String {
        let file = self.beside.path().join("map.json");
        std::fs::write(&file, map).expect("written");
        format!("{} --device-map {}", self.offload(), file.display())
    }

    pub(crate) fn offload(&self) -> String {
        let prices = prices::file(self.beside.path(), QUICK);
        format!("--offload {} --prices {}", self.folder.path().display(), prices.display())
    }

    pub(crate) fn is_empty(&self) -> bool {
        std::fs::read_dir(self.folder.path()).expect("readable").next().is_none()
    }
}

pub(crate) fn planned(finished: &Finished) -> Value {
    serde_json::from_str(finished.stdout.lines().next().expect("an event")).expect("JSON")
}

pub(crate) fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is not a number"))
}

/// Rows of two lengths.
pub(crate) fn rows(folder: &Path) -> PathBuf {
    let mut lines = String::new();
    for row in 0..12_usize {
        let tokens = if row % 4 == 3 { 25 + row % 6 } else { 7 + row % 6 };
        let ids: Vec<usize> = (0..tokens).map(|token| (row * 31 + token * 7) % 120 + 1).collect();
        writeln!(lines, "{{\"input_ids\": {ids:?}}}").expect("a string");
    }
    let path = folder.join("rows.jsonl");
    std::fs::write(&path, lines).expect("written");
    path
}

/// All that a run leaves which could differ.
fn results(train: &Train, validated: bool, sampled: bool) -> (Vec<Vec<f64>>, Vec<u8>, Vec<u8>) {
    let losses = ["loss", "grad_norm"].map(|key| train.metrics(key)).to_vec();
    let evaluated = if validated { text(&train.bytes("metrics.jsonl")) } else { String::new() };
    let val_losses =
        evaluated.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["val_loss"].to_string());
    let val_losses: String = val_losses.collect();
    let samples = if sampled { train.bytes("samples.jsonl") } else { Vec::new() };
    (losses, train.bytes(ADAPTER), [samples, val_losses.into_bytes()].concat())
}

#[test]
fn every_bit_stays_wherever_weights_lie() {
    let disk = Disk::new();
    let lengths = rows(disk.beside.path());
    let held_out = format!("--eval-data {} --eval-every 2 --sample Once --sample-tokens 5", lengths.display());
    for (name, flags, evaluates) in [
        ("llama-gqa-tied", format!("--method lora --dropout 0.1 --batch-size 1 --checkpointing full {held_out}"), true),
        ("gpt2", "--method qlora --precision bf16 --packing --batch-size 2".to_string(), false),
        ("qwen2_moe", "--method lora --precision bf16 --batch-size 2".to_string(), false),
    ] {
        let flags = format!("{flags} --rank 4 --steps 4 --grad-accum 2 --lr 1e-2 --json");
        let run = |more: &str| {
            let train = Train::on(name, &format!("{flags} {more}"));
            if evaluates { train.data(&lengths).finish() } else { train.finish() }
        };
        let reference = run("--threads 2");
        let expected = results(&reference.train, evaluates, evaluates);
        let all = disk.flags("{\"\": \"disk\"}");
        for more in [format!("{all} --threads 1"), format!("{all} --threads 2 --poison --validate")] {
            let off = run(&more);
            let planned = planned(&off);
            assert!(number(&planned["off_memory_weight_bytes"]) > 0 && number(&planned["read_weight_bytes"]) > 0);
            let resident = number(&planned["parts"]["weights"]) + number(&planned["parts"]["quantised_weights"]);
            assert!(resident < 4096, "constants alone: {resident} bytes, {more}");
            assert!(results(&off.train, evaluates, evaluates) == expected, "{name} {more}");
            let record: Value = serde_json::from_slice(&off.train.bytes("record.json")).expect("JSON");
            let placement = record["plan"]["placement"].as_array().expect("where weights lie");
            let large = placement.iter().filter(|placed| number(&placed["bytes"]) >= 4096);
            assert!(large.clone().count() > 2 && large.clone().all(|placed| placed["tier"] != "host"), "{placement:?}");
        }
    }
    assert!(disk.is_empty(), "the file has no name");
}

#[test]
fn a_run_goes_on_with_its_weights_elsewhere() {
    let disk = Disk::new();
    let flags = "--method lora --rank 4 --batch-size 2 --grad-accum 2 --lr 1e-2 --schedule constant --save-every 2";
    let whole = Train::on("llama-gqa-tied", &format!("{flags} --steps 4")).finish().train;
    let train =
        Train::on("llama-gqa-tied", &format!("{flags} --steps 2 {}", disk.flags("{\"\": \"disk\"}"))).finish().train;
    let map = disk.flags("{\"model.layers.0\": \"disk\", \"model.layers.0.mlp\": \"cpu\"}");
    let resumed = train.resume(&format!("--steps 4 {map}"));
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    assert!(train.bytes(ADAPTER) == whole.bytes(ADAPTER));
    assert!(disk.is_empty());
}

fn plan(flags: &str) -> Command {
    let mut command = remat(["plan", "--model"]);
    command.arg(case("llama-gqa-tied")).args(flags.split_whitespace());
    command
}

#[test]
fn a_map_is_followed_line_by_line() {
    let disk = Disk::new();
    let map = disk
        .flags("{\"model.layers.0\": \"disk\", \"model.layers.0.mlp\": \"host\", \"model.embed_tokens\": \"host\"}");
    let json = |flags: &str| -> Value {
        let output = plan(&format!("{map} --json {flags}")).output().expect("the binary runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    let placement = json("")["placement"].clone();
    let tiers = |module: &str| -> Vec<String> {
        let of = placement.as_array().expect("a list").iter().filter(|placed| placed["module"] == module);
        of.map(|placed| placed["tier"].as_str().expect("a word").to_string()).collect()
    };
    let mut first = tiers("model.layers.0");
    first.sort();
    // The files are in f32, and so are the weights: they are read from there.
    assert_eq!(first, ["host", "model_files"], "{placement}");
    assert_eq!(
        (tiers("model.layers.1"), tiers("model.embed_tokens.weight")),
        (vec!["host".into()], vec!["host".into()])
    );
    let in_bf16 = json("--precision bf16")["placement"].to_string();
    assert!(in_bf16.contains("\"disk\"") && !in_bf16.contains("model_files"), "{in_bf16}");
    let page = plan(&format!("{map} --explain placement")).output().expect("the binary runs");
    let page = text(&page.stdout);
    assert!(page.contains("where frozen weights lie") && page.contains("the least that any placement takes"), "{page}");
    assert!(page.contains("read a micro-step, 2 times") || page.contains("read a micro-step, 1 times"), "{page}");
}

#[test]
fn what_cannot_be_followed_is_refused_with_its_line() {
    let disk = Disk::new();
    let refused = |flags: &str| {
        let output = plan(flags).output().expect("the binary runs");
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{flags}: {stderr}");
        stderr
    };
    let map = |map: &str, more: &str| refused(&format!("{} {more}", disk.flags(map)));
    assert!(
        map("{\"model.layers.0\": \"host\",\n\"model.layers.99\": \"disk\"}", "")
            .contains("map.json:2: \"model.layers.99\": the model has no such module")
    );
    assert!(map("{\"model.layers.0\": 0}", "").contains("map.json:1: \"model.layers.0\": there is no tier 0"));
    assert!(map("{\"model.norm\": \"disk\"}", "--modules-to-save model.norm").contains("is trained beside adapters"));
    let file = disk.beside.path().join("map.json");
    let alone = refused(&format!("--precision bf16 --device-map {}", file.display()));
    assert!(alone.contains("--offload DIR"), "{alone}");
    let alone = refused(&format!("--method full --device-map {}", file.display()));
    assert!(alone.contains("--offload DIR"), "{alone}");
    assert!(refused("--device-map /no/such/map").contains("--device-map: /no/such/map"));
    assert!(refused("--max-memory gpu=1GiB").contains("there is no memory 'gpu'"));
    assert!(refused("--max-memory host=1GiB --memory 1GiB").contains("give one of them"));
}

#[test]
fn a_disk_that_is_too_small_is_an_error_before_the_first_step() {
    let disk = Disk::new();
    let all = disk.flags("{\"\": \"disk\"}");
    let train = Train::on("llama-gqa-tied", &format!("--precision bf16 --steps 1 {all}"));
    let refused = train.command("--max-memory disk=4KiB").output().expect("the binary runs");
    let stderr = text(&refused.stderr);
    assert_eq!(refused.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("--max-memory disk allows"), "{stderr}");
    let command = train.command("");
    let arguments = command.get_args().map(|argument| argument.to_str().expect("UTF-8"));
    let line = std::iter::once(env!("CARGO_BIN_EXE_remat")).chain(arguments).collect::<Vec<_>>().join(" ");
    // No file may be larger than 4 KiB, as on a disk that has no more room.
    let output =
        Command::new("sh").arg("-c").arg(format!("trap '' XFSZ; ulimit -f 8; exec {line}")).output().expect("a shell");
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains("cannot hold") && stderr.contains("a disk with more room"), "{stderr}");
    assert!(!train.out().exists() && disk.is_empty());
}

#[test]
fn auto_and_limits_by_kind_mean_what_memory_means() {
    let disk = Disk::new();
    let json = |flags: &str| -> Value {
        let output = plan(&format!("--json {} {flags}", disk.offload())).output().expect("the binary runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    let (memory, by_kind) = (json("--memory 2GiB"), json("--max-memory host=2GiB,disk=1GiB --device-map auto"));
    assert_eq!(memory["arena_bytes"], by_kind["arena_bytes"]);
    assert_eq!((&memory["placement"], &memory["fits"]), (&json!([]), &by_kind["fits"]));
}

#[test]
fn without_a_folder_weights_may_stay_in_the_models_own_files() {
    let disk = Disk::new();
    let file = disk.beside.path().join("map.json");
    std::fs::write(&file, "{\"model.layers\": \"disk\"}").expect("written");
    let flags = "--method lora --rank 4 --steps 2 --json";
    let off = Train::on("llama-gqa-tied", &format!("{flags} --device-map {}", file.display())).finish();
    assert!(number(&planned(&off)["off_memory_weight_bytes"]) > 0);
    let resident = Train::on("llama-gqa-tied", &format!("{flags} --device-map auto")).finish();
    assert_eq!(number(&planned(&resident)["off_memory_weight_bytes"]), 0, "all of it fits");
    assert!(off.train.bytes(ADAPTER) == resident.train.bytes(ADAPTER));
}

#[test]
fn weights_in_few_bits_are_read_from_the_files_that_hold_them_in_parts() {
    let disk = Disk::new();
    let file = disk.beside.path().join("map.json");
    std::fs::write(&file, "{\"model.layers\": \"disk\"}").expect("written");
    let prices = prices::file(disk.beside.path(), QUICK);
    for quant in ["nf4", "int8"] {
        let quantised = disk.beside.path().join(quant);
        let mut command = remat(["quantize", "--quant", quant, "--model"]);
        let made = command.arg(case("llama-gqa-tied")).arg("--out").arg(&quantised).output().expect("the binary runs");
        assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
        let flags = format!("--method qlora --quant {quant} --precision bf16 --rank 4 --steps 2 --json");
        let flags = format!("{flags} --prices {}", prices.display());
        let run = |more: &str| Train::on("llama-gqa-tied", &format!("{flags} {more}")).model(&quantised).finish();
        let off = run(&format!("--device-map {}", file.display()));
        let record: Value = serde_json::from_slice(&off.train.bytes("record.json")).expect("JSON");
        let placement = record["plan"]["placement"].to_string();
        assert!(placement.contains("model_files") && !placement.contains("\"disk\""), "{placement}");
        assert!(number(&planned(&off)["off_memory_weight_bytes"]) > 0);
        assert!(off.train.bytes(ADAPTER) == run("").train.bytes(ADAPTER), "{quant}");
    }
}
