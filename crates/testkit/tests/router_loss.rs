//! The loss that balances experts, held to transformers' (`fixtures/router_loss.py`): gradients, twenty losses, evaluation, all on
//! batches with padding; and its bits under every policy.

mod case;

use case::{Case, Run, relative_distance};
use remat_plan::Policy;

const LOSSES: f64 = 1e-4;
const GRADIENTS: f64 = 1e-4;
const KINDS: [&str; 2] = ["lora", "full"];

fn cases() -> impl Iterator<Item = (&'static str, Case)> {
    let names = include_str!("../../../fixtures/parity/experts.txt").lines();
    names.map(|name| (name, Case::of_router_loss(name)))
}

#[test]
fn gradients_of_a_padded_batch_equal_the_reference() {
    for (name, case) in cases() {
        for kind in KINDS {
            let mut run = Run::new(&case, &case.method(kind), &Policy::Full);
            let (loss, expected) =
                (run.accumulate(case.number(&["padded_update"]) as usize), case.number(&["losses", kind]));
            assert!((loss - expected).abs() < LOSSES, "{name} {kind}: loss {loss}, the reference has {expected}");
            let prefix = format!("grad.{kind}.");
            let recorded: Vec<&str> = case.tensor_names().filter_map(|key| key.strip_prefix(&prefix)).collect();
            assert!(recorded.iter().any(|key| key.contains("gate.") || kind == "lora"), "{name}: {recorded:?}");
            for key in recorded {
                let expected = case.tensor(&format!("{prefix}{key}"));
                let distance = relative_distance(&run.state(&format!("{key}.grad")), &expected);
                assert!(distance < GRADIENTS, "{name} {kind}: the gradient of {key} differs by {distance:e}");
            }
        }
    }
}

#[test]
fn twenty_losses_equal_the_reference() {
    for (name, case) in cases() {
        for kind in KINDS {
            let mut run = Run::new(&case, &case.method(kind), &Policy::Every(2));
            let of = |what: &str| case.numbers(&["series", kind, what]);
            for (update, ((expected, rate), norm)) in
                of("losses").into_iter().zip(of("lrs")).zip(of("grad_norms")).enumerate()
            {
                let loss = run.accumulate(update);
                assert!((loss - expected).abs() < LOSSES, "{name} {kind}: update {update}: {loss}, not {expected}");
                let off = (run.update(update, rate) - norm).abs() / norm;
                assert!(off < 1e-3, "{name} {kind}: update {update}: gradient norm off by {off}");
            }
        }
    }
}

#[test]
fn evaluation_adds_it_for_each_trained_token_of_a_batch() {
    for (name, case) in cases() {
        let batches = case.list(&["evaluation"]);
        let updates: Vec<usize> =
            batches.iter().map(|batch| batch["update"].as_u64().expect("a number") as usize).collect();
        for (batch, sum) in batches.iter().zip(case.evaluate(&updates)) {
            let number = |key: &str| batch[key].as_f64().expect("a number");
            let loss = f64::from(sum) / number("trained_tokens");
            assert!((loss - number("loss")).abs() < LOSSES, "{name}: {loss}, not {}", number("loss"));
        }
    }
}

#[test]
fn it_has_the_same_bits_under_every_policy_and_adds_nothing_to_a_batch_of_padding() {
    let case = Case::of_router_loss("qwen3_moe");
    let bits = |policy: &Policy, threads: usize| {
        let mut run = Run::on_threads(&case, &case.full(), policy, threads);
        let loss = run.accumulate(1).to_bits();
        let names: Vec<String> = run.parameters().map(|name| format!("{name}.grad")).collect();
        let gradients = names.iter().flat_map(|name| run.state(name)).map(f32::to_bits);
        (loss, gradients.collect::<Vec<_>>())
    };
    let first = bits(&Policy::None, 1);
    for (policy, threads) in [(Policy::Full, 2), (Policy::Every(2), 4), (Policy::Budget(3 << 16), 2)] {
        assert!(first == bits(&policy, threads), "{policy} on {threads} threads differs");
    }
    let mut run = Run::new(&case, &case.full(), &Policy::None);
    assert_eq!(run.rehearse(), 0.0);
    let names: Vec<String> = run.parameters().map(|name| format!("{name}.grad")).collect();
    assert!(names.iter().flat_map(|name| run.state(name)).all(|x| x == 0.0));
}
