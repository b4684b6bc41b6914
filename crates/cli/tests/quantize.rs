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

/// transformers rounded these models to bf16, as we do; bitsandbytes then rounds to f16, which changes no code here.
#[test]
fn int8_codes_and_scales_are_those_that_transformers_saves() {
    for case in ["llama-rope3-bias", "gpt2"] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let model = fixtures().join("parity").join(case);
        let flags = ["quantize", "--quant", "int8", "--model", &model.to_string_lossy(), "--out", "out"];
        let output = remat(&flags, folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let ours = tensors(&folder.path().join("out/model.safetensors"));
        let theirs = tensors(&fixtures().join("int8").join(case).join("model.safetensors"));
        assert_eq!(ours.len(), theirs.len(), "{case}");
        for ((name, shape, bytes), (their_name, their_shape, theirs)) in ours.iter().zip(&theirs) {
            assert_eq!((name, shape), (their_name, their_shape), "{case}");
            assert!(bytes == theirs, "{case}: {name}");
        }
        let config = std::fs::read_to_string(folder.path().join("out/config.json")).expect("written");
        let config: serde_json::Value = serde_json::from_str(&config).expect("JSON");
        let settings = &config["quantization_config"];
        assert_eq!((&settings["load_in_8bit"], &settings["load_in_4bit"]), (&true.into(), &false.into()));
    }
}

#[test]
fn a_run_on_the_folder_is_a_qlora_run() {
    for quant in ["nf4", "int8"] {
        let folder = tempfile::tempdir().expect("temporary folder");
        let model = fixtures().join("parity/llama-rope3-bias");
        let (model, rows) = (model.to_string_lossy(), fixtures().join("parity/llama-rope3-bias/rows.jsonl"));
        let output = remat(&["quantize", "--quant", quant, "--model", &model, "--out", "few"], folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        // This model is stored in bf16, so that quantising while loading sees the same numbers.
        for (model, method, out) in [("few", &["lora"][..], "a"), (&*model, &["qlora", "--quant", quant], "b")] {
            let flags = ["train", "--model", model, "--data", &rows.to_string_lossy(), "--out", out, "--method"];
            let more = ["--steps", "3", "--batch-size", "2", "--precision", "bf16", "--quiet"];
            let output = remat(&[&flags[..], method, &more].concat(), folder.path());
            assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        }
        let adapter =
            |out: &str| std::fs::read(folder.path().join(out).join("adapter_model.safetensors")).expect("written");
        assert!(adapter("a") == adapter("b"), "{quant}");
    }
}

#[test]
fn a_folder_in_another_format_than_the_one_asked_for_is_refused() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = fixtures().join("int8/llama-rope3-bias");
    let plan = |more: &[&str]| {
        let flags = ["plan", "--model", &model.to_string_lossy(), "--memory", "1GiB", "--seq-len", "16", "--method"];
        remat(&[&flags[..], more].concat(), folder.path())
    };
    let refused = plan(&["qlora"]);
    assert_eq!(refused.status.code(), Some(2), "{}", text(&refused.stderr));
    let message = text(&refused.stderr);
    assert!(message.contains("--quant nf4: weights of this model are stored in int8; use --quant int8"), "{message}");
    for accepted in [&["qlora", "--quant", "int8"][..], &["lora"]] {
        let output = plan(accepted);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let full = plan(&["full"]);
    assert_eq!(full.status.code(), Some(2), "{}", text(&full.stderr));
    assert!(text(&full.stderr).contains("are stored in int8 and cannot be trained"), "{}", text(&full.stderr));
    let quant = plan(&["lora", "--quant", "int8"]);
    assert_eq!(quant.status.code(), Some(2), "{}", text(&quant.stderr));
    assert!(text(&quant.stderr).contains("--quant: needs --method qlora"), "{}", text(&quant.stderr));
}

#[test]
fn a_plan_of_the_folder_counts_the_bits_that_are_stored() {
    let folder = tempfile::tempdir().expect("temporary folder");
    let model = fixtures().join("parity/llama-rope3-bias");
    let model = model.to_string_lossy();
    for (quant, out) in [("nf4", "four"), ("int8", "eight")] {
        let output = remat(&["quantize", "--quant", quant, "--model", &model, "--out", out], folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    }
    let weights_of = |model: &str, method: &[&str]| {
        let flags = ["plan", "--json", "--model", model, "--precision", "bf16", "--memory", "1GiB", "--method"];
        let output = remat(&[&flags[..], method].concat(), folder.path());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        plan["phases"][1]["parts"]["weights"].as_u64().expect("a size")
    };
    let weights = |model: &str, method: &str| weights_of(model, &[method]);
    let stored = weights("four", "lora");
    let in_int8 = weights("eight", "lora");
    assert_eq!(in_int8, weights_of(&model, &["qlora", "--quant", "int8"]));
    assert!(stored < in_int8 && in_int8 < weights(&model, "lora"), "{stored}, {in_int8}");
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
