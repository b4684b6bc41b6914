//! Names that a user gives say nothing: what looks like a state's name is what it was declared as, or is refused by name.

use crate::models::{ROWS, WIDTH};
use remat::{AdamWSettings, DType, Error, Graph, Init, Options};

/// Loss, gradient and both parameters after two updates of a model whose input and parameters have these names.
fn trained([input, weight, bias]: [&str; 3]) -> Vec<u32> {
    let mut g = Graph::new();
    let x = g.input(input, DType::F32, &[ROWS, WIDTH]).expect("new");
    let classes = g.input("classes", DType::I32, &[ROWS]).expect("new");
    let first: Vec<f32> = (0..3 * WIDTH).map(|i| (i * 29 % 31) as f32 / 31.0 - 0.5).collect();
    let scale = g.parameter(bias, &[WIDTH], Init::Ones).expect("new");
    let h = g.rms_norm(x, scale, 1e-5).expect("fits");
    let head = g.parameter(weight, &[3, WIDTH], Init::Values(first)).expect("new");
    let loss = g.cross_entropy(h, head, classes).expect("fits");
    let options = Options::new().threads(1).adamw(AdamWSettings::default());
    let mut step = g.compile(loss, options).expect("compiles");
    let elements: Vec<f32> = (0..ROWS * WIDTH).map(|i| (i * 37 % 101) as f32 / 50.0 - 1.0).collect();
    step.set_input(input, &elements).expect("fits");
    step.set_input("classes", &(0..ROWS as i32).map(|row| row % 3).collect::<Vec<i32>>()).expect("fits");
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(step.run().expect("runs"));
        seen.extend(step.gradient(weight).expect("trained"));
        step.update(1e-2).expect("updates");
    }
    seen.extend([weight, bias].iter().flat_map(|name| step.parameter(name).expect("a parameter")));
    seen.into_iter().map(f32::to_bits).collect()
}

#[test]
fn names_that_end_as_states_do_are_what_they_were_declared_as() {
    let expected = trained(["x", "head", "scale"]);
    for names in [
        ["x.grad", "head", "scale"],
        ["x", "head.m", "scale.v_absmax"],
        ["x.v", "a.lora_B.weight", "a.lora_A.weight"],
        ["step.k_cache", "w.bf16", "w.grad"],
        ["scale.inv_freq", "adamw.w", "w"],
    ] {
        assert!(trained(names) == expected, "{names:?}");
    }
}

#[test]
fn names_that_training_needs_for_states_are_refused() {
    let states = ["w.grad", "w.m", "w.v", "w.m_absmax", "w.v_absmax"];
    type Declare = fn(&mut Graph, &str) -> Result<remat::Tensor, Error>;
    let declares: [(&str, Declare); 3] = [
        ("input", |g, name| g.input(name, DType::F32, &[2])),
        ("parameter", |g, name| g.parameter(name, &[2], Init::Ones)),
        ("weight", |g, name| g.frozen(name, &[2], Init::Ones)),
    ];
    for (kind, declare) in declares {
        for state in states {
            let mut g = Graph::new();
            g.parameter("w", &[2], Init::Ones).expect("new");
            let after = declare(&mut g, state).expect_err(state).to_string();
            assert!(after.starts_with(&format!("{kind} \"{state}\": training keeps \"{state}\"")), "{after}");
            let mut g = Graph::new();
            declare(&mut g, state).expect("new");
            let before = g.parameter("w", &[2], Init::Ones).expect_err(state).to_string();
            assert!(before.starts_with(&format!("parameter \"w\": training keeps \"{state}\"")), "{before}");
            // Beside what is not trained, nothing is kept.
            let mut g = Graph::new();
            g.frozen("w", &[2], Init::Ones).expect("new");
            declare(&mut g, state).expect("nothing else has this name");
        }
    }
}

#[test]
fn names_are_given_once() {
    for name in ["lr", "step", "dloss", "rng", "grad_norm", "clip_scale"] {
        let mut g = Graph::new();
        let refused = g.parameter(name, &[2], Init::Ones).expect_err(name).to_string();
        assert!(refused.contains(&format!("value of the training step \"{name}\" exists already")), "{refused}");
        // An op of this name gets another one.
        let x = g.input("x", DType::F32, &[2]).expect("new");
        let y = g.op(name, remat::ops::Scale { factor: 1.0 }, &[x]).expect("fits");
        assert_ne!(g.name(y[0]).expect("ours"), name);
    }
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[2]).expect("new");
    g.op("y", remat::ops::Scale { factor: 1.0 }, &[x]).expect("fits");
    let refused = g.input("y", DType::F32, &[2]).expect_err("an op has it").to_string();
    assert!(refused.contains("input \"y\" exists already"), "{refused}");
}
