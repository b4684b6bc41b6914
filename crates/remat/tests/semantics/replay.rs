//! B and C: recomputation gives what the forward gave.

use crate::models::{WIDTH, assert_same_under_every_policy, bits, classifier, runs_again, started};
use remat::{CheckpointPolicy, DType, Graph, Init, Options, Tensor};

fn with_dropout() -> (Graph, Tensor) {
    classifier(|g, x| {
        (0..4).try_fold(x, |h, i| {
            g.checkpoint(&format!("layers.{i}"), |g| {
                let h = g.dense("fc", h, WIDTH)?;
                let h = g.gelu(h)?;
                let h = g.dropout(h, 0.3)?;
                g.gelu(h)
            })
        })
    })
}

#[test]
fn b11_dropout_replays_exactly() {
    assert_same_under_every_policy(with_dropout);
    let step = started(with_dropout(), CheckpointPolicy::full());
    assert!(step.op_runs()["dropout"].recomputed > 0);
}

#[test]
fn b11_dropout_differs_from_run_to_run_and_from_layer_to_layer() {
    let mut step = started(with_dropout(), CheckpointPolicy::full());
    let first = bits(&mut step);
    assert!(first != bits(&mut step), "the next micro-batch drops others");
    let (mut g, _) = with_dropout();
    let ones = g.input("ones", DType::F32, &[64]).expect("new");
    let (a, b) = (g.dropout(ones, 0.5).expect("fits"), g.dropout(ones, 0.5).expect("fits"));
    let names = [a, b].map(|x| g.name(x).expect("ours").to_string());
    g.output(a).and_then(|()| g.output(b)).expect("ours");
    let mut step = g.compile_forward(remat::Options::new()).expect("compiles");
    step.set_input("ones", &[1.0_f32; 64]).expect("fits");
    step.run_forward().expect("runs");
    let [a, b] = names.map(|name| step.output(&name).expect("an output"));
    assert!(a != b);
    assert!(a.iter().all(|&x| x == 0.0 || x == 2.0));
}

#[test]
fn b12_bf16_replays_with_the_same_roundings() {
    // bf16 inside the regions, f32 outside: a kept value is rounded where its recomputed twin is.
    let model = || {
        classifier(|g, x| {
            (0..3).try_fold(x, |h, i| {
                g.checkpoint(&format!("layers.{i}"), |g| {
                    let w = g.parameter("w", &[WIDTH, WIDTH], Init::Normal(0.4))?;
                    let (h, w) = (g.cast(h, DType::BF16)?, g.cast(w, DType::BF16)?);
                    let h = g.linear(h, w, None)?;
                    let h = g.gelu(h)?;
                    g.cast(h, DType::F32)
                })
            })
        })
    };
    assert_same_under_every_policy(model);
    assert!(runs_again(&started(model(), CheckpointPolicy::full())) > 0);
}

#[test]
fn what_an_op_reads_twice_and_others_after_it_is_validated() {
    let mut g = Graph::new();
    let w = g.parameter("w", &[4, 4], Init::Normal(1.0)).expect("a parameter");
    let h = g.checkpoint("block", |g| g.tanh(w)).expect("of its shape");
    let readers = [Graph::mul, Graph::swiglu, Graph::matmul, Graph::matmul_transposed];
    let mut loss = g.sum(h).expect("a number");
    for reader in readers {
        let y = g.checkpoint("twice", |g| reader(g, h, h)).expect("of its shape");
        let y = g.sum(y).expect("a number");
        loss = g.add(loss, y).expect("a number");
    }
    for policy in [CheckpointPolicy::none(), CheckpointPolicy::full()] {
        let mut step = g.clone().compile(loss, Options::new().policy(policy).threads(1)).expect("compiles");
        assert!(step.validate().expect("the same bits").reference_values > 10);
    }
}
