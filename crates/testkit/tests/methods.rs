//! Adapters that are more than plain LoRA, against PEFT by numbers: logits, gradients, twenty losses, folders both ways.
//!
//! What the reference computed is in `fixtures/methods/<base>/<method>`, made by `fixtures/methods.py`; models and batches are
//! those of `fixtures/parity`. No Python runs here.

mod case;

use case::{Case, Run, relative_distance};
use remat_formats::{NamedTensor, SafetensorsFile, write_safetensors};
use remat_model::{AdapterStart, LoraConfig, LoraVariant, MergeOptions, Method, Precision, Quant};
use remat_plan::Policy;
use remat_tensor::{DType, HostTensor};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

const LOGITS: f64 = 1e-4;
const GRADIENTS: f64 = 1e-4;
const LOSSES: f64 = 1e-4;

/// Base and method of every case with an adapter in a folder.
fn cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    all_cases().filter(|(_, method)| start_of(method).is_none())
}

fn all_cases() -> impl Iterator<Item = (&'static str, &'static str)> {
    include_str!("../../../fixtures/methods/cases.txt").lines().map(|line| line.split_once(' ').expect("two words"))
}

/// The start of the methods that take theirs out of the base.
fn start_of(method: &str) -> Option<AdapterStart> {
    method.parse().ok().filter(|start: &AdapterStart| start.takes_from_base())
}

/// The cases of these, with the settings that `fixtures/methods.py` gives them.
fn started_cases() -> impl Iterator<Item = (&'static str, &'static str, LoraConfig)> {
    all_cases().filter_map(|(base, method)| {
        let plain = Case::open(base).lora().adapter().expect("an adapter").clone();
        Some((base, method, LoraConfig { rank: 4, alpha: 8.0, start: start_of(method)?, ..plain }))
    })
}

/// Twenty updates: losses, and norms of the gradients, against what was recorded under this name.
fn check_series(case: &Case, what: &str, run: &mut Run<'_>, series: &str) {
    let at = |key| case.numbers(&["series", series, key]);
    let (losses, rates, norms) = (at("losses"), at("lrs"), at("grad_norms"));
    assert_eq!(losses.len(), 20, "{what}");
    for (update, ((expected, rate), expected_norm)) in losses.iter().zip(rates).zip(norms).enumerate() {
        let loss = run.accumulate(update);
        assert!((loss - expected).abs() < LOSSES, "{what}: update {update}: loss {loss}, not {expected}");
        let norm = run.update(update, rate);
        let off = (norm - expected_norm).abs() / expected_norm;
        assert!(off < 1e-3, "{what}: update {update}: gradient norm {norm}, not {expected_norm}");
    }
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
        check_series(&case, &format!("{base} {method}"), &mut Run::new(&case, &case.lora(), &Policy::Every(2)), "lora");
    }
}

/// What bitsandbytes and peft compute on the base in four bits; a start out of the base as peft computes it on the weights
/// that the codes stand for.
#[test]
fn twenty_losses_on_a_base_in_four_bits_equal_the_reference() {
    let mut compared = 0;
    for (base, method) in all_cases() {
        let case = Case::of_method(base, method);
        if !case.has(&["series", "qlora"]) {
            continue;
        }
        let started = started_cases().find(|(other, name, _)| (*other, *name) == (base, method));
        let qlora = match started {
            Some((.., lora)) => Method::Qlora(lora, Quant::Nf4),
            None => case.qlora(),
        };
        check_series(&case, &format!("{base} {method} nf4"), &mut Run::new(&case, &qlora, &Policy::Every(2)), "qlora");
        compared += 1;
    }
    assert_eq!(compared, 9);
}

#[test]
fn a_start_out_of_the_base_is_that_of_the_reference() {
    for (base, method, lora) in started_cases() {
        let case = Case::of_method(base, method);
        let mut run = Run::new(&case, &Method::Lora(lora.clone()), &Policy::Full);
        let mut compared = 0;
        for name in case.tensor_names().filter_map(|name| name.strip_prefix("product.")) {
            let (a, b) = (run.state(&format!("{name}.lora_A.weight")), run.state(&format!("{name}.lora_B.weight")));
            let (fan_in, fan_out) = (a.len() / 4, b.len() / 4);
            let element = |o: usize, i: usize| (0..4).map(|r| b[o * 4 + r] * a[r * fan_in + i]).sum::<f32>();
            let product: Vec<f32> = (0..fan_out * fan_in).map(|at| element(at / fan_in, at % fan_in)).collect();
            let distance = relative_distance(&product, &case.tensor(&format!("product.{name}")));
            assert!(distance < 1e-4, "{base} {method}: the start of {name} differs by {distance:e}");
            compared += 1;
        }
        assert_eq!(compared, 6, "{base} {method}");
        let logits = relative_distance(&case.logits(&Method::Lora(lora), ""), &case.tensor("logits.adapter"));
        assert!(logits < LOGITS, "{base} {method}: logits differ by {logits:e}");
        check_series(&case, &format!("{base} {method}"), &mut run, "lora");
    }
}

/// A trained adapter is saved for the base as it is: read as any other, it computes what it did in training, and so does
/// the merged model.
#[test]
fn an_adapter_that_took_its_start_out_of_the_base_is_saved_for_the_whole_base() {
    for (base, method, lora) in started_cases() {
        for lora in [lora.clone(), LoraConfig { rank_stabilised: true, ..lora }] {
            let (case, dir) = (Case::of_method(base, method), tempfile::tempdir().expect("a folder"));
            let lora = Method::Lora(LoraConfig { alpha_pattern: vec![("q_proj".into(), 3.0)], ..lora });
            let mut run = Run::new(&case, &lora, &Policy::None);
            for update in 0..4 {
                run.accumulate(update);
                run.update(update, 1e-2);
            }
            let trained = run.accumulate(5);
            let (adapter, merged) = (dir.path().join("adapter"), dir.path().join("merged"));
            run.save_adapter(&lora, &adapter);
            let path = adapter.to_str().expect("text");
            let read = case.adapter(path);
            let config = read.adapter().expect("an adapter");
            assert_eq!((config.rank, config.start), (8, AdapterStart::Default), "{base} {method}");
            let again = Run::of_adapter(&case, &read, path).accumulate(5);
            assert!((again - trained).abs() < 1e-5, "{base} {method}: {again}, in training {trained}");
            let logits = case.logits(&read, path);
            let options = MergeOptions { dtype: Some(DType::F32), shard_bytes: 1 << 40, replace: false };
            case.model().write_merged(Some(&adapter), &options, &merged).unwrap_or_else(|error| panic!("{error}"));
            let whole = case.with_model_of(&merged).logits(&Method::Full, "");
            let expected = HostTensor::from_f64(
                [logits.len()],
                DType::F32,
                &logits.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(),
            );
            let distance = relative_distance(&whole, &expected);
            assert!(distance < 1e-5, "{base} {method}: the merged model differs by {distance:e}");
        }
    }
}

/// Adapters that were not trained change nothing, whatever the base is held in.
#[test]
fn an_adapter_that_was_not_trained_computes_what_the_base_does() {
    for precision in [Precision::F32, Precision::Bf16] {
        let case = Case::open_in("llama-gqa-tied", precision);
        let plain = case.lora().adapter().expect("an adapter").clone();
        let started = |start| LoraConfig { start, ..plain.clone() };
        let dora = LoraConfig { variant: LoraVariant::DORA, ..plain.clone() };
        let pissa = started(AdapterStart::Pissa(None));
        let niter = started(AdapterStart::Pissa(Some(2)));
        let olora = started(AdapterStart::Olora);
        let fresh = |method: Method| Run::with_fresh_adapter(&case, &method, &Policy::None).accumulate(0);
        let base = fresh(Method::Lora(plain.clone()));
        let quantised = fresh(Method::Qlora(plain.clone(), Quant::Nf4));
        // In bf16 the products that cancel are rounded each.
        let most = if precision == Precision::F32 { 1e-5 } else { 2e-2 };
        for lora in [dora.clone(), pissa, niter, olora.clone()] {
            let (name, loss) = (format!("{precision} {:?} {}", lora.variant, lora.start), fresh(Method::Lora(lora)));
            assert!((loss - base).abs() < most, "{name}: {loss}, the base has {base}");
        }
        for lora in [dora.clone(), olora] {
            let (name, loss) =
                (format!("{precision} {:?} {}", lora.variant, lora.start), fresh(Method::Qlora(lora, Quant::Nf4)));
            assert!((loss - quantised).abs() < most, "{name} nf4: {loss}, the base has {quantised}");
        }
        // Norms are divided by themselves: of the same numbers, decoded alike.
        let loss = fresh(Method::Qlora(dora, Quant::Nf4));
        assert_eq!(loss, quantised, "{precision} dora nf4");
    }
}

#[test]
fn dora_under_dropout_has_the_same_bits_under_every_plan() {
    let case = Case::of_method("llama-rope3-bias", "dora");
    let dropped = LoraConfig { dropout: 0.3, ..case.lora().adapter().expect("an adapter").clone() };
    let method = Method::Lora(dropped);
    let expected = gradient_bits(&case, &method, &Policy::None, 1);
    assert_ne!(expected, gradient_bits(&case, &case.lora(), &Policy::None, 1), "dropout does something");
    same_bits_under_every_plan(&case, &method);
}

#[test]
fn what_cannot_start_out_of_the_base_is_refused_by_name() {
    let case = Case::open("llama-gqa-tied");
    let plain = case.lora().adapter().expect("an adapter").clone();
    let pissa = LoraConfig { start: AdapterStart::Pissa(None), ..plain.clone() };
    let refused = |method: Method, expected: &str| {
        let error = case.try_training(&method).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    };
    refused(Method::Qlora(pissa.clone(), Quant::Nf4), "as in PEFT, and these are in nf4; use olora");
    refused(
        Method::Lora(LoraConfig { variant: LoraVariant::DORA, ..pissa.clone() }),
        "`init-lora-weights` pissa: goes with plain LoRA, and this is dora",
    );
    let training = |lora: LoraConfig| Run::try_init(&case, &Method::Lora(lora)).expect_err("refused").to_string();
    let error = training(LoraConfig { rank: 500, ..pissa.clone() });
    assert!(error.contains("has no start of rank 500; give it at most"), "{error}");
    let error = training(LoraConfig { alpha: 0.0, ..pissa });
    assert!(error.contains("must be above 0; raise `alpha`"), "{error}");
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
            same_bits_under_every_plan(&case, &method);
        }
    }
    for (base, name, lora) in started_cases() {
        same_bits_under_every_plan(&Case::of_method(base, name), &Method::Lora(lora));
    }
}

fn same_bits_under_every_plan(case: &Case, method: &Method) {
    let expected = gradient_bits(case, method, &Policy::None, 1);
    for (policy, threads) in [(Policy::Full, 2), (Policy::Every(2), 3)] {
        let found = gradient_bits(case, method, &policy, threads);
        assert!(found == expected, "{method:?}: {policy} differs");
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
