//! QLoRA: a run on quantised weights is, bit for bit, a run on the dense weights that decoding gives; and it is what
//! transformers, bitsandbytes and PEFT compute (`fixtures/qlora.py`), from their files, too.

mod case;

use case::{Case, Run, relative_distance};
use remat_formats::SafetensorsFile;
use remat_model::{Precision, Quant};
use remat_plan::Policy;
use remat_tensor::DType;
use std::path::{Path, PathBuf};

const CASES: [&str; 2] = ["llama-gqa-tied", "gpt2"];
/// These, and a family for each way in which linears lie in a block.
const FAMILIES: [&str; 10] =
    ["llama-gqa-tied", "gpt2", "gemma2", "gemma3", "phi3", "stablelm", "starcoder2", "gpt_neox", "phi", "mixtral"];

const QUANTS: [Quant; 2] = [Quant::Nf4, Quant::Int8];

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/nf4").join(case)
}

/// Weights of linears, by name.
fn linear_weights(case: &Case) -> Vec<String> {
    case.linear_names().into_iter().map(|module| format!("{module}.weight")).collect()
}

/// The dense run on the decoded weights: GPT-2 stores them the other way round.
fn dense_twin<'a>(case: &'a Case, quantised: &mut Run<'_>, policy: &Policy) -> Run<'a> {
    let mut dense = Run::new(case, &case.lora(), policy);
    for name in linear_weights(case) {
        let (decoded, (_, shape, _)) = (quantised.weight(&name), quantised.stored_weight(&name));
        let (out, input) = (shape[0], shape[1]);
        let turned: Vec<f32> = (0..out * input).map(|at| decoded[at % out * input + at / out]).collect();
        let in_out = dense.stored_weight(&name).1 != shape || name.starts_with("transformer.");
        dense.set_weight(&name, if in_out { &turned } else { &decoded });
    }
    dense
}

#[test]
fn losses_and_gradients_have_the_bits_of_a_dense_run_on_the_decoded_weights() {
    for (name, quant) in FAMILIES.into_iter().flat_map(|name| QUANTS.map(|quant| (name, quant))) {
        for precision in [Precision::F32, Precision::Bf16] {
            for policy in [Policy::None, Policy::Full] {
                let case = Case::open_in(name, precision);
                let mut quantised = Run::new(&case, &case.qlora_in(quant), &policy);
                let mut dense = dense_twin(&case, &mut quantised, &policy);
                for update in 0..3 {
                    let (loss, twin) = (quantised.accumulate(update), dense.accumulate(update));
                    assert_eq!(loss.to_bits(), twin.to_bits(), "{name} {quant} {precision}: {loss}, dense {twin}");
                    for parameter in case.training(&case.lora()).parameters {
                        let gradient = format!("{}.grad", parameter.name);
                        let bits = |run: &Run<'_>| run.state(&gradient).iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                        assert_eq!(bits(&quantised), bits(&dense), "{name} {quant} {precision}: {gradient}");
                    }
                    quantised.update(update, 1e-2);
                    dense.update(update, 1e-2);
                }
            }
        }
    }
}

/// Of a bf16 run against the dense one in f32, as for any other weights; int8 itself moves losses less than that.
#[test]
fn twenty_losses_on_int8_weights_in_bf16_are_near_those_in_f32_and_of_the_unquantised_model() {
    for name in CASES {
        let losses = |precision, quantised: bool| -> Vec<f64> {
            let case = Case::open_in(name, precision);
            let method = if quantised { case.qlora_in(Quant::Int8) } else { case.lora() };
            let mut run = Run::new(&case, &method, &Policy::Full);
            let updates = 0..20;
            let step = |update: usize| {
                let loss = run.accumulate(update);
                run.update(update, 1e-3);
                loss
            };
            updates.map(step).collect()
        };
        let (f32, bf16) = (losses(Precision::F32, true), losses(Precision::Bf16, true));
        let dense = losses(Precision::F32, false);
        for (other, what) in [(&bf16, "bf16"), (&dense, "unquantised")] {
            let worst = f32.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-2, "{name}: {what} is off by {worst}");
            assert!(worst > 0.0, "{name}: {what} is another computation");
        }
    }
}

/// The weights differ from the unquantised ones, so that the tests of this file compare what they say.
#[test]
fn every_linear_is_quantised_and_nothing_else() {
    for (name, quant) in FAMILIES.into_iter().flat_map(|name| QUANTS.map(|quant| (name, quant))) {
        let case = Case::open(name);
        let (quantised, plain) =
            (Run::new(&case, &case.qlora_in(quant), &Policy::Full), Run::new(&case, &case.lora(), &Policy::Full));
        let graph = case.training(&case.qlora_in(quant)).graph;
        let dtype = quant.format().dtype();
        let in_few_bits = graph.values.iter().filter(|value| value.ty.dtype == dtype);
        let names: Vec<&str> = in_few_bits.map(|value| value.name.as_str()).collect();
        let mut wanted = linear_weights(&case);
        wanted.sort_unstable();
        let mut found = names.clone();
        found.sort_unstable();
        assert_eq!(found, wanted, "{name}");
        let sorted = |mut values: Vec<f32>| {
            values.sort_by(f32::total_cmp);
            values
        };
        for weight in names {
            assert_ne!(sorted(quantised.weight(weight)), sorted(plain.weight(weight)), "{name}: {weight}");
        }
    }
}

#[test]
fn gradients_and_twenty_losses_are_those_of_peft_and_bitsandbytes() {
    for name in CASES {
        let text = std::fs::read_to_string(folder(name).join("reference.json")).expect("the fixtures are committed");
        let json: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let reference = SafetensorsFile::open(&folder(name).join("reference.safetensors")).expect("tensors");
        for (precision, key, tolerance) in [(Precision::F32, "float32", 1e-4), (Precision::Bf16, "bfloat16", 2e-2)] {
            let case = Case::open_in(name, precision);
            let mut run = Run::new(&case, &case.qlora(), &Policy::Full);
            let list = |what: &str| -> Vec<f64> { serde_json::from_value(json[key][what].clone()).expect("numbers") };
            let (losses, rates) = (list("losses"), list("lrs"));
            assert_eq!(losses.len(), 20);
            for (update, (expected, rate)) in losses.iter().zip(rates).enumerate() {
                let loss = run.accumulate(update);
                if update == 0 && precision == Precision::F32 {
                    for parameter in run.parameters() {
                        let expected = reference.read(&format!("grad.lora.{parameter}")).expect("recorded");
                        let distance = relative_distance(&run.state(&format!("{parameter}.grad")), &expected);
                        assert!(distance < 1e-4, "{name}: the gradient of {parameter} differs by {distance:e}");
                    }
                }
                let off = (loss - expected).abs();
                assert!(off < tolerance, "{name} {key}: update {update}: loss {loss}, not {expected} ({off:e})");
                run.update(update, rate);
            }
        }
    }
}

#[test]
fn checkpoints_in_four_bits_hold_what_is_quantised_while_loading() {
    for name in CASES {
        let case = Case::open(name);
        let mut loaded = Run::new(&case, &case.qlora(), &Policy::Full);
        let nested = Case::open(name).with_model_of(&folder(name).join("nested"));
        let single = Case::open(name).with_model_of(&folder(name).join("single"));
        let mut from_nested = Run::new(&nested, &nested.lora(), &Policy::Full);
        let mut from_single = Run::new(&single, &single.lora(), &Policy::Full);
        for weight in linear_weights(&case) {
            assert_eq!(from_nested.stored_weight(&weight), loaded.stored_weight(&weight), "{name}: {weight}");
            let (dtype, shape, bytes) = from_single.stored_weight(&weight);
            assert_eq!((dtype, &shape), (DType::Nf4Single, &loaded.stored_weight(&weight).1), "{name}: {weight}");
            let codes = bytes.len().min(shape.iter().product::<usize>().div_ceil(2));
            assert_eq!(bytes[..codes], loaded.stored_weight(&weight).2[..codes], "{name}: codes of {weight}");
        }
        let losses = [loaded.accumulate(0), from_nested.accumulate(0), from_single.accumulate(0)];
        assert_eq!(losses[0].to_bits(), losses[1].to_bits(), "{name}: {losses:?}");
        assert!((losses[2] - losses[0]).abs() < 2e-2, "{name}: {losses:?}");
    }
}

#[test]
fn a_checkpoint_in_four_bits_cannot_be_trained_in_full() {
    let case = Case::open("gpt2").with_model_of(&folder("gpt2").join("nested"));
    let error = case.try_training(&case.full()).expect_err("refused").to_string();
    assert!(error.starts_with("`method` full: the weights of this model are stored in nf4"), "{error}");
}
