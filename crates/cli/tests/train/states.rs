//! Training states off memory under full fine-tuning: whatever of parameters, gradients and moments lies on the disk, a run has
//! the same losses and leaves the same model, also resumed, evaluated and sampled; what is planned is what is shown.

use crate::command::{Train, case, remat, text};
use crate::placement::{Disk, number, planned, rows};
use serde_json::Value;
use std::collections::BTreeMap;

/// Losses, norms of gradients, and all files of the model that is left.
fn results(train: &Train) -> (Vec<Vec<f64>>, BTreeMap<String, Vec<u8>>) {
    let numbers = ["loss", "grad_norm"].map(|key| train.metrics(key)).to_vec();
    let files = std::fs::read_dir(train.out()).expect("a folder").flatten().filter_map(|entry| {
        let name = entry.file_name().into_string().ok()?;
        (name.ends_with(".safetensors") || name == "samples.jsonl").then(|| (name.clone(), train.bytes(&name)))
    });
    let files: BTreeMap<String, Vec<u8>> = files.collect();
    assert!(files.keys().any(|name| name.ends_with(".safetensors")), "{:?}", files.keys());
    (numbers, files)
}

#[test]
fn every_bit_stays_wherever_states_lie() {
    let disk = Disk::new();
    let lengths = rows(disk.beside.path());
    let held_out = format!("--eval-data {} --eval-every 2 --sample Once --sample-tokens 3", lengths.display());
    for (name, flags, of_lengths) in [
        ("llama-gqa-tied", format!("--clip 0.5 --batch-size 1 --grad-accum 2 {held_out}"), true),
        ("gpt2", "--precision bf16 --optimizer adamw8bit --packing --batch-size 2 --clip 0".to_string(), false),
    ] {
        let flags = format!("--method full {flags} --steps 3 --lr 1e-2 --json");
        let run = |more: &str| {
            let train = Train::on(name, &format!("{flags} {more}"));
            if of_lengths { train.data(&lengths).finish() } else { train.finish() }
        };
        let expected = results(&run("--threads 2").train);
        let all = disk.flags("{\"\": \"disk\"}");
        let more = match of_lengths {
            true => format!("{all} --threads 1 --poison --validate"),
            false => format!("{all} --threads 2 --checkpointing full"),
        };
        let off = run(&more);
        let states = planned(&off)["states"].clone();
        let kinds = states.as_array().expect("where states lie");
        assert!(kinds.len() >= 3 && kinds.iter().all(|kind| number(&kind["memory_bytes"]) == 0), "{states}");
        assert!(kinds.iter().all(|kind| number(&kind["read_bytes"]) > 0), "{states}");
        assert!(results(&off.train) == expected, "{name} {more}");
        let record: Value = serde_json::from_slice(&off.train.bytes("record.json")).expect("JSON");
        assert_eq!(record["plan"]["states"], states);
    }
    assert!(disk.is_empty(), "the files have no name");
}

#[test]
fn a_run_goes_on_with_its_states_elsewhere() {
    let disk = Disk::new();
    let flags = "--method full --batch-size 2 --lr 1e-2 --schedule constant --save-every 2";
    let whole = Train::on("llama-gqa-tied", &format!("{flags} --steps 4")).finish().train;
    let train =
        Train::on("llama-gqa-tied", &format!("{flags} --steps 2 {}", disk.flags("{\"\": \"disk\"}"))).finish().train;
    let map = disk.flags("{\"model.layers.0\": \"disk\", \"model.layers.0.mlp\": \"cpu\"}");
    let resumed = train.resume(&format!("--steps 4 {map}"));
    assert_eq!(resumed.status.code(), Some(0), "{}", text(&resumed.stderr));
    let (numbers, files) = results(&whole);
    assert!(results(&train).1 == files && train.metrics("loss") == numbers[0]);
    assert!(disk.is_empty());
}

#[test]
fn a_limit_moves_states_to_the_disk_the_cheapest_first() {
    let disk = Disk::new();
    let plan = |memory: &str, more: &str| -> Value {
        let mut command = remat(["plan", "--preset", "gpt2", "--method", "full", "--seq-len", "64", "--json"]);
        command.args(disk.offload().split_whitespace()).args(["--memory", memory]).args(more.split_whitespace());
        let output = command.output().expect("the binary runs");
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
    };
    let on_disk = |plan: &Value| -> Vec<String> {
        let kinds = plan["states"].as_array().expect("a list").iter();
        let off = kinds.filter(|kind| number(&kind["disk_bytes"]) > 0);
        off.map(|kind| kind["kind"].as_str().expect("a word").to_string()).collect()
    };
    let (whole, some, little) = (plan("4GiB", ""), plan("1536MiB", ""), plan("900MiB", "--grad-accum 2"));
    assert!(on_disk(&whole).is_empty() && whole["fits"] == true);
    assert_eq!(on_disk(&some), ["moments"]);
    assert_eq!((&some["fits"], &little["fits"]), (&Value::Bool(true), &Value::Bool(true)), "{little}");
    assert!(on_disk(&little).starts_with(&["moments".to_string(), "gradient_sums".to_string()]), "{little}");
    assert!(number(&little["peak_bytes"]) <= 900 << 20);
    let page = remat(["plan", "--model"])
        .arg(case("llama-gqa-tied"))
        .args(["--method", "full"])
        .args(format!("--explain placement {}", disk.flags("{\"model.layers.0\": \"disk\"}")).split_whitespace())
        .output()
        .expect("the binary runs");
    let page = text(&page.stdout);
    assert!(page.contains("where training states lie") && page.contains("written an update"), "{page}");
}
