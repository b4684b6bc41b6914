//! Any number of ranks, and any numbers one after the other, give the bytes of the default build alone.

use super::launch::{Launcher, Outcome, same};

pub(crate) fn lora(launcher: &Launcher<'_>) -> Outcome<()> {
    let rows = launcher.path("llama-gqa-tied-rows.jsonl");
    let flags = format!("--dropout 0.1 --eval-every 2 --eval-data {}", rows.display());
    at_any_number(launcher, "llama-gqa-tied", &flags)
}

pub(crate) fn qlora(launcher: &Launcher<'_>) -> Outcome<()> {
    at_any_number(launcher, "gpt2", "--method qlora --precision bf16 --packing --checkpointing full")
}

pub(crate) fn full(launcher: &Launcher<'_>) -> Outcome<()> {
    at_any_number(launcher, "llama-f16", "--method full --optimizer adamw8bit")
}

/// Thirteen rows in micro-batches of one, four to an update: the last of an epoch has one.
fn at_any_number(launcher: &Launcher<'_>, model: &str, flags: &str) -> Outcome<()> {
    let flags = format!("{} --lr 1e-2 --steps 5 --save-every 5 {flags}", launcher.model(model, false));
    let of = |ranks: usize| {
        let out = format!("{model}-{ranks}");
        launcher.succeeds(launcher.train(ranks, &out, &flags))?;
        launcher.bytes_of(&out)
    };
    let alone = of(0)?;
    if alone.len() != 2 + 5 {
        return Err(format!("{:?} is not what a run leaves", alone.keys()).into());
    }
    (1..=4).try_for_each(|ranks| Ok(same(&format!("{ranks} ranks"), &alone, &of(ranks)?)?))
}

pub(crate) fn resumed(launcher: &Launcher<'_>) -> Outcome<()> {
    let flags = "--dropout 0.1 --lr 1e-2 --schedule constant --save-every 1";
    let flags = format!("{} {flags}", launcher.model("llama-gqa-tied", false));
    let run = |ranks: usize, out: &str, steps: usize| {
        launcher.succeeds(launcher.train(ranks, out, &format!("{flags} --resume --steps {steps}")))
    };
    run(0, "whole", 5)?;
    for (ranks, steps) in [(1, 1), (4, 2), (2, 3), (3, 5)] {
        run(ranks, "parts", steps)?;
    }
    Ok(same("in parts", &launcher.bytes_of("whole")?, &launcher.bytes_of("parts")?)?)
}
