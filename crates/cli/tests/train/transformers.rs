//! The twenty losses, rates and gradient norms that transformers and peft had on the same rows, through the binary:
//! data, order, accumulation, schedule, clipping, decay and AdamW together.

use crate::command::{Train, case};
use serde_json::Value;

fn reference(name: &str) -> Value {
    let text = std::fs::read_to_string(case(name).join("reference.json")).expect("the fixtures are committed");
    serde_json::from_str(&text).expect("JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn compare(name: &str, series: &str, method: &str) {
    let reference = reference(name);
    let of = |key: &str| &reference["series"][series][key];
    let number = |key: &str| of(key).as_f64().expect("a number");
    let flags = format!(
        "{method} --precision f32 --no-shuffle --batch-size {} --grad-accum {} --seq-len {} --steps {} --lr {} --warmup {} --schedule {} \
         --weight-decay {} --clip {} --quiet",
        reference["batch_size"],
        reference["accumulation"],
        reference["seq_len"],
        of("updates"),
        number("lr"),
        of("warmup"),
        of("schedule").as_str().expect("a name"),
        reference["optimizer"]["weight_decay"],
        reference["optimizer"]["clip_norm"],
    );
    let train = Train::on(name, &flags).finish().train;
    let close = |key: &str, expected: &str, tolerance: f64| {
        let (found, expected) = (train.metrics(key), numbers(of(expected)));
        assert_eq!(found.len(), expected.len(), "{name} {series}: {key}");
        for (update, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let off = (found - expected).abs();
            assert!(
                off <= tolerance * expected.abs().max(1.0),
                "{name} {series}: {key} {update}: {found}, not {expected}"
            );
        }
    };
    close("loss", "losses", 1e-4);
    close("lr", "lrs", 1e-12);
    close("grad_norm", "grad_norms", 1e-3);
}

/// The models of `fixtures/parity`.
fn cases() -> impl Iterator<Item = &'static str> {
    include_str!("../../../../fixtures/parity/cases.txt").lines()
}

fn lora(name: &str) -> String {
    format!("--method lora --init-adapter {}", case(name).join("adapter").display())
}

#[test]
fn lora_has_the_losses_of_peft() {
    cases().for_each(|name| compare(name, "lora", &lora(name)));
}

#[test]
fn the_cosine_schedule_is_that_of_transformers() {
    compare("llama-gqa-tied", "lora_cosine", &lora("llama-gqa-tied"));
}

#[test]
fn full_fine_tuning_has_the_losses_of_transformers() {
    cases().for_each(|name| compare(name, "full", "--method full"));
}
