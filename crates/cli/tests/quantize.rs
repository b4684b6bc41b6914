//! `remat quantize` from outside: the folder that it writes, and that it writes none when it fails.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn remat(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_remat")).args(arguments).current_dir(folder).output().expect("the binary runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Names in a folder.
fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort_unstable();
    names
}

/// The tensors of a file, by name.
fn tensors(path: &Path) -> Vec<(String, Vec<usize>, Vec<u8>)> {
    let file = remat_formats::SafetensorsFile::open(path).unwrap_or_else(|error| panic!("{error}"));
    let names: Vec<String> = file.names().map(str::to_string).collect();
    let read = |name: &String| {
        let mut bytes = Vec::new();
        let take = &mut |piece: &[u8]| {
            bytes.extend_from_slice(piece);
            Ok(())
        };
        file.read_chunks(name, take).expect("read");
        (name.clone(), file.tensor_info(name).expect("there").shape.to_vec(), bytes)
    };
    names.iter().map(read).collect()
}

#[test]
fn codes_scales_and_maps_are_those_that_transformers_saves() {
    for case in ["llama-gqa-tied", "gpt2"] {
        let folder = tempfile::tempdir().expect("temporary folder");
        // transformers quantised this model in f32; in 16 bits as we do it, codes may differ where rounding moves a value.
        let model = fixtures().join("parity").join(case);
        let output = remat(&["quantize", "--model", &model.to_string_lossy(), "--out", "out"], folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).contains(" bits each, "), "{}", text(&output.stdout));
        let ours = tensors(&folder.path().join("out/model.safetensors"));
        let theirs = tensors(&fixtures().join("nf4").join(case).join("nested/model.safetensors"));
        let shapes = |list: &[(String, Vec<usize>, Vec<u8>)]| {
            let plain = list.iter().filter(|(name, ..)| !name.contains("quant_state"));
            plain.map(|(name, shape, _)| (name.clone(), shape.clone())).collect::<Vec<_>>()
        };
        assert_eq!(shapes(&ours), shapes(&theirs), "{case}");
        for ((name, _, ours), (_, _, theirs)) in ours.iter().zip(&theirs) {
            if name.ends_with("_map") {
                assert_eq!(ours, theirs, "{case}: {name}");
            }
            if name.ends_with("weight") && ours.len() == theirs.len() {
                let same = ours.iter().zip(theirs).filter(|(a, b)| a == b).count();
                assert!(same * 10 >= ours.len() * 9, "{case}: {name}: {same} of {} bytes", ours.len());
            }
        }
        assert_eq!(names(folder.path()), ["out"], "nothing else is left");
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            assert!(folder.path().join("out").join(file).is_file(), "{file}");
        }
    }
}

#[test]
fn a_run_on_the_folder_is_a_qlora_run() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = fixtures().join("parity/llama-rope3-bias");
    let (model, rows) = (model.to_string_lossy(), fixtures().join("parity/llama-rope3-bias/rows.jsonl"));
    let output = remat(&["quantize", "--model", &model, "--out", "four"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    // This model is stored in bf16, so that quantising while loading sees the same numbers.
    for (model, method, out) in [("four", "lora", "a"), (&*model, "qlora", "b")] {
        let flags = ["train", "--model", model, "--data", &rows.to_string_lossy(), "--out", out, "--method", method];
        let more = ["--steps", "3", "--batch-size", "2", "--precision", "bf16", "--quiet"];
        let output = remat(&[&flags[..], &more].concat(), folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let adapter =
        |out: &str| std::fs::read(folder.path().join(out).join("adapter_model.safetensors")).expect("written");
    assert!(adapter("a") == adapter("b"));
}

#[test]
fn a_plan_of_the_folder_counts_the_bits_that_are_stored() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = fixtures().join("parity/llama-rope3-bias");
    let model = model.to_string_lossy();
    let output = remat(&["quantize", "--model", &model, "--out", "four"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let weights = |model: &str, method: &str| {
        let flags = ["plan", "--json", "--model", model, "--method", method, "--precision", "bf16"];
        let output = remat(&[&flags[..], &["--memory", "1GiB"]].concat(), folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        plan["phases"][1]["parts"]["weights"].as_u64().expect("a size")
    };
    let stored = weights("four", "lora");
    assert_eq!(stored, weights(&model, "qlora"));
    assert!(stored < weights(&model, "lora"), "{stored}");
    // From the configuration alone, nothing is known to be quantised.
    std::fs::remove_file(folder.path().join("four/model.safetensors")).expect("it was there");
    assert_eq!(weights("four", "lora"), weights(&model, "lora"));
    let output = remat(&["plan", "--model", &model, "--method", "full", "--memory", "1GiB"], folder.path());
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
}

#[test]
fn what_is_there_is_kept_unless_it_is_a_model_to_be_replaced() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = fixtures().join("parity/gpt2");
    let quantize = |more: &[&str]| {
        let arguments = ["quantize", "--model", &model.to_string_lossy(), "--out", "out"];
        remat(&[&arguments[..], more].concat(), folder.path())
    };
    assert_eq!(quantize(&[]).status.code(), Some(0));
    let again = quantize(&[]);
    assert_eq!(again.status.code(), Some(2));
    let message = text(&again.stderr);
    assert!(message.contains("--out out: exists; choose another folder, or replace it with --force"), "{message}");
    assert_eq!(quantize(&["--force"]).status.code(), Some(0));
    std::fs::remove_file(folder.path().join("out/config.json")).expect("removed");
    let other = quantize(&["--force"]);
    assert_eq!(other.status.code(), Some(2));
    assert!(text(&other.stderr).contains("--out out: is not a model folder"), "{}", text(&other.stderr));
    let twice = remat(
        &["quantize", "--model", &fixtures().join("nf4/gpt2/nested").to_string_lossy(), "--out", "x"],
        folder.path(),
    );
    assert_eq!(twice.status.code(), Some(2));
    assert!(text(&twice.stderr).contains("is quantised already"), "{}", text(&twice.stderr));
    assert_eq!(names(folder.path()), ["out"]);
}

/// A limit on the size of files stands for a full disk: a write fails half-way.
#[test]
fn a_disk_that_fills_up_is_an_error_that_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let script = "trap '' XFSZ; ulimit -f 40; exec \"$0\" quantize --model \"$1\" --out out";
    let output = Command::new("bash")
        .args(["-c", script, env!("CARGO_BIN_EXE_remat")])
        .arg(fixtures().join("parity/llama-gqa-tied"))
        .current_dir(folder.path())
        .output()
        .expect("the binary runs");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("model.safetensors: cannot write the file"), "{}", text(&output.stderr));
    assert_eq!(names(folder.path()), Vec::<String>::new());
}
