//! Parity with transformers and PEFT, by numbers: logits, every gradient and twenty AdamW losses on small random models.
//!
//! What the reference computed is in `fixtures/parity/<case>`, made by `fixtures/make.py`; no Python runs here.

mod case;

use case::{Case, Run, cases, relative_distance};
use remat_plan::Policy;

const LOGITS: f64 = 1e-4;
const GRADIENTS: f64 = 1e-4;
const LOSSES: f64 = 1e-4;

#[test]
fn logits_of_base_and_adapter_equal_the_reference() {
    for name in cases() {
        let case = Case::open(name);
        for (method, key) in [(case.full(), "logits.base"), (case.lora(), "logits.adapter")] {
            let logits = case.logits(&method, "adapter");
            let distance = relative_distance(&logits, &case.tensor(key));
            assert!(distance < LOGITS, "{name}: {key} differs by {distance:e}");
        }
    }
}

#[test]
fn peft_computes_our_logits_from_an_adapter_that_train_wrote() {
    for name in cases() {
        let case = Case::open(name);
        let logits = case.logits(&case.adapter("trained"), "trained");
        let peft = case.tensor_of("trained/peft_logits.safetensors", "logits");
        let distance = relative_distance(&logits, &peft);
        assert!(distance < LOGITS, "{name}: differs by {distance:e}");
    }
}

#[test]
fn every_adapter_gradient_equals_the_reference() {
    gradients_equal("lora", &Policy::Full);
}

#[test]
fn every_parameter_gradient_of_full_fine_tuning_equals_the_reference() {
    gradients_equal("full", &Policy::None);
}

fn gradients_equal(kind: &str, policy: &Policy) {
    for name in cases() {
        let case = Case::open(name);
        let mut run = Run::new(&case, &case.method(kind), policy);
        let loss = run.accumulate(0);
        let expected = case.number(&["first_update", "losses", kind]);
        assert!((loss - expected).abs() < LOSSES, "{name} {kind}: loss {loss}, the reference has {expected}");
        let mut compared = 0;
        for parameter in run.parameters() {
            let expected = case.tensor(&format!("grad.{kind}.{parameter}"));
            let distance = relative_distance(&run.state(&format!("{parameter}.grad")), &expected);
            assert!(distance < GRADIENTS, "{name} {kind}: the gradient of {parameter} differs by {distance:e}");
            compared += 1;
        }
        let recorded = case.tensor_names().filter(|key| key.starts_with(&format!("grad.{kind}."))).count();
        assert_eq!(compared, recorded, "{name} {kind}: each recorded gradient is compared");
    }
}

#[test]
fn twenty_losses_of_lora_equal_the_reference() {
    cases().for_each(|name| losses_equal(name, "lora", "lora"));
}

#[test]
fn twenty_losses_of_full_fine_tuning_equal_the_reference() {
    cases().for_each(|name| losses_equal(name, "full", "full"));
}

#[test]
fn losses_under_the_cosine_schedule_equal_the_reference() {
    losses_equal("llama-gqa-tied", "lora", "lora_cosine");
}

fn losses_equal(name: &str, kind: &str, series: &str) {
    let case = Case::open(name);
    let mut run = Run::new(&case, &case.method(kind), &Policy::Every(2));
    let losses = case.numbers(&["series", series, "losses"]);
    let rates = case.numbers(&["series", series, "lrs"]);
    let norms = case.numbers(&["series", series, "grad_norms"]);
    for (update, ((expected, rate), expected_norm)) in losses.iter().zip(rates).zip(norms).enumerate() {
        let loss = run.accumulate(update);
        assert!((loss - expected).abs() < LOSSES, "{name} {series}: update {update}: loss {loss}, not {expected}");
        let norm = run.update(update, rate);
        let off = (norm - expected_norm).abs() / expected_norm;
        assert!(off < 1e-3, "{name} {series}: update {update}: gradient norm {norm}, not {expected_norm}");
    }
}
