//! Adapters that are more than plain LoRA, against PEFT by numbers: logits, gradients, twenty losses, folders both ways.
//!
//! What the reference computed is in `fixtures/methods/<base>/<method>`, made by `fixtures/methods.py`; models and batches are
//! those of `fixtures/parity`. No Python runs here.

mod case;

use case::{Case, Run, relative_distance};
use remat_formats::{NamedTensor, SafetensorsFile, write_safetensors};
use remat_model::{MergeOptions, Method};
use remat_plan::Policy;
use remat_tensor::{DType, HostTensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const LOGITS: f64 = 1e-4;
const GRADIENTS: f64 = 1e-4;
const LOSSES: f64 = 1e-4;

/// Base and method of every case.
fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("../../../fixtures/methods/cases.txt").lines().map(|line| line.split_once(' ').expect("two words"))
}

/// The file's name of a trained parameter's gradient: the names of adapters are the file's own.
fn recorded<'a>(case: &'a Case, parameter: &str) -> Vec<&'a str> {
    let module = parameter.rsplit_once('.').map_or(parameter, |(module, _)| module);
    let head = ["lm_head", "embed_out"].contains(&module);
    let is_it = |name: &&str| {
        let name = name.strip_prefix("grad.lora.").unwrap_or(name);
        let plain = name.strip_prefix("base_model.model.").unwrap_or(name).replace(".base_layer.", ".");
        name == parameter || plain == parameter || (head && plain == "lm_head.weight")
    };
    case.tensor_names().filter(|name| name.starts_with("grad.")).filter(is_it).collect()
}

#[test]
fn logits_with_the_adapter_equal_the_reference() {
    for (base, method) in cases() {
        let case = Case::of_method(base, method);
        let logits = case.logits(&case.lora(), "adapter");
        let distance = relative_distance(&logits, &case.tensor("logits.adapter"));
        assert!(distance < LOGITS, "{base} {method}: logits differ by {distance:e}");
    }
}

#[test]
fn every_gradient_equals_the_reference() {
    for (base, method) in cases() {
        let case = Case::of_method(base, method);
        let mut run = Run::new(&case, &case.lora(), &Policy::Full);
        let loss = run.accumulate(0);
        let expected = case.number(&["first_update", "losses", "lora"]);
        assert!((loss - expected).abs() < LOSSES, "{base} {method}: loss {loss}, the reference has {expected}");
        let mut compared = 0;
        for parameter in run.parameters() {
            let names = recorded(&case, parameter);
            assert_eq!(names.len(), 1, "{base} {method}: the gradient of {parameter} was recorded once");
            let distance = relative_distance(&run.state(&format!("{parameter}.grad")), &case.tensor(names[0]));
            assert!(distance < GRADIENTS, "{base} {method}: the gradient of {parameter} differs by {distance:e}");
            compared += 1;
        }
        let recorded = case.tensor_names().filter(|key| key.starts_with("grad.")).count();
        assert_eq!(compared, recorded, "{base} {method}: each recorded gradient is compared");
    }
}

#[test]
fn twenty_losses_equal_the_reference() {
    for (base, method) in cases() {
        let case = Case::of_method(base, method);
        let mut run = Run::new(&case, &case.lora(), &Policy::Every(2));
        let at = |key| case.numbers(&["series", "lora", key]);
        let (losses, rates, norms) = (at("losses"), at("lrs"), at("grad_norms"));
        for (update, ((expected, rate), expected_norm)) in losses.iter().zip(rates).zip(norms).enumerate() {
            let loss = run.accumulate(update);
            assert!((loss - expected).abs() < LOSSES, "{base} {method}: update {update}: loss {loss}, not {expected}");
            let norm = run.update(update, rate);
            let off = (norm - expected_norm).abs() / expected_norm;
            assert!(off < 1e-3, "{base} {method}: update {update}: gradient norm {norm}, not {expected_norm}");
        }
    }
}

/// The tensors of a file, by name.
fn tensors(folder: &Path) -> BTreeMap<String, (Vec<usize>, Vec<u8>)> {
    let file = SafetensorsFile::open(&folder.join("adapter_model.safetensors")).unwrap_or_else(|e| panic!("{e}"));
    let read = |name: &str| {
        let tensor = file.read(name).expect("a tensor");
        (name.to_string(), (tensor.shape().dims().to_vec(), tensor.as_bytes().to_vec()))
    };
    file.names().map(read).collect()
}

fn settings(folder: &Path) -> Value {
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).expect("settings");
    serde_json::from_str(&text).expect("JSON")
}

#[test]
fn a_folder_of_peft_that_is_written_again_is_the_same_adapter() {
    for (base, method) in cases() {
        let case = Case::of_method(base, method);
        let (lora, dir) = (case.lora(), tempfile::tempdir().expect("a folder"));
        Run::new(&case, &lora, &Policy::None).save_adapter(&lora, dir.path());
        let from = case.folder().join("adapter");
        assert!(tensors(dir.path()) == tensors(&from), "{base} {method}: the tensors differ");
        let (written, read) = (settings(dir.path()), settings(&from));
        for (key, value) in written.as_object().expect("an object") {
            if key == "base_model_name_or_path" {
                continue;
            }
            assert_eq!(*value, read[key], "{base} {method}: {key}");
        }
        // What is read of it is what was read before.
        let again = case.model().adapter_settings(dir.path()).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(Some(&again.config), lora.adapter(), "{base} {method}");
        assert!(again.notes.is_empty(), "{base} {method}: {:?}", again.notes);
    }
}

/// What PEFT writes beside the adapter of an embedding or a head unless told otherwise: copies of the base's own weights. They
/// are no part of the adapter; another base's say that it belongs to that.
#[test]
fn copies_of_the_bases_embedding_and_head_are_compared_and_left() {
    let (base, method) = ("llama-gqa-tied", "lora-both");
    let dir = tempfile::tempdir().expect("a folder");
    let adapter = Case::of_method(base, method).folder().join("adapter");
    let file = SafetensorsFile::open(&adapter.join("adapter_model.safetensors")).expect("an adapter");
    let weights = SafetensorsFile::open(&Case::open(base).folder().join("model.safetensors")).expect("a base");
    let weight = weights.read("model.embed_tokens.weight").expect("an embedding");
    let write = |change: f64| {
        let mut values = weight.to_f64();
        values[77] += change;
        let copy = HostTensor::from_f64(weight.shape().clone(), DType::F32, &values);
        let own: Vec<(String, HostTensor)> =
            file.names().map(|name| (name.to_string(), file.read(name).expect("a tensor"))).collect();
        let copies = ["model.embed_tokens", "lm_head"].map(|m| format!("base_model.model.{m}.base_layer.weight"));
        let all = own.iter().map(|(name, tensor)| (name, tensor)).chain(copies.iter().map(|name| (name, &copy)));
        let tensors: Vec<NamedTensor<'_>> = all
            .map(|(name, t)| NamedTensor { name, dtype: t.dtype(), shape: t.shape(), bytes: t.as_bytes() })
            .collect();
        write_safetensors(&dir.path().join("adapter_model.safetensors"), &tensors, &[]).expect("written");
        std::fs::copy(adapter.join("adapter_config.json"), dir.path().join("adapter_config.json")).expect("copied");
    };
    let case = Case::of_method(base, method);
    write(0.0);
    assert_eq!(case.try_load_adapter_of(dir.path()).map_err(|error| error.to_string()), Ok(()));
    write(0.25);
    let refused = case.try_load_adapter_of(dir.path()).expect_err("another base's");
    assert!(refused.to_string().contains("copy of another base"), "{refused}");
}

/// Bits of every gradient after one update's micro-batches.
fn gradient_bits(case: &Case, method: &Method, policy: &Policy, threads: usize) -> Vec<u32> {
    let mut run = Run::on_threads(case, method, policy, threads);
    let mut bits: Vec<u32> = vec![(run.accumulate(0) as f32).to_bits()];
    let names: Vec<String> = run.parameters().map(str::to_string).collect();
    for name in names {
        bits.extend(run.state(&format!("{name}.grad")).into_iter().map(f32::to_bits));
    }
    bits
}

#[test]
fn every_plan_gives_the_same_bits() {
    for (base, method) in cases() {
        let case = Case::of_method(base, method);
        for method in [case.lora(), case.qlora()] {
            let expected = gradient_bits(&case, &method, &Policy::None, 1);
            for (policy, threads) in [(Policy::Full, 2), (Policy::Every(2), 3)] {
                let found = gradient_bits(&case, &method, &policy, threads);
                assert!(found == expected, "{base} {method:?}: {policy} differs");
            }
        }
    }
}

/// Logits of a merged folder, and of base and adapter apart.
#[test]
fn a_merged_folder_computes_what_base_and_adapter_do() {
    for (base, method) in cases() {
        let case = Case::of_method(base, method);
        let dir = tempfile::tempdir().expect("a folder");
        let (out, options) =
            (dir.path().join("merged"), MergeOptions { dtype: Some(DType::F32), shard_bytes: 1 << 40, replace: false });
        let merged = case.model().write_merged(Some(&case.folder().join("adapter")), &options, &out);
        merged.unwrap_or_else(|error| panic!("{base} {method}: {error}"));
        let case = case.with_model_of(&out);
        let logits = case.logits(&Method::Full, "adapter");
        let distance = relative_distance(&logits, &case.tensor("logits.adapter"));
        assert!(distance < LOGITS, "{base} {method}: logits of the merged folder differ by {distance:e}");
    }
}
