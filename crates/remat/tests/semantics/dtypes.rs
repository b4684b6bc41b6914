//! Inputs, outputs, gradients and losses in other dtypes than f32 are read as what they are.

use remat::{CheckpointPolicy, DType, Error, Graph, Init, Options, Step, bf16};

/// Eight numbers that bf16 holds exactly, negative ones among them.
fn numbers() -> Vec<f32> {
    (0..8).map(|i| i as f32 / 4.0 - 1.0).collect()
}

fn as_bf16(numbers: &[f32]) -> Vec<bf16> {
    numbers.iter().map(|&x| bf16::from_f32(x)).collect()
}

#[test]
fn outputs_in_bf16_are_widened_or_read_as_they_are() {
    let mut g = Graph::new();
    let x = g.input("x", DType::BF16, &[2, 4]).expect("new");
    let y = g.scale(x, 0.5).expect("fits");
    g.output(y).expect("its own");
    let mut step = g.compile_forward(Options::new().threads(1)).expect("compiles");
    step.set_input("x", &as_bf16(&numbers())).expect("fits");
    step.run_forward().expect("runs");
    let halves: Vec<f32> = numbers().iter().map(|x| x / 2.0).collect();
    assert_eq!(step.output("scale").expect("an output"), halves);
    assert_eq!(step.output_of::<bf16>("scale").expect("an output"), as_bf16(&halves));
    let refused = step.output_of::<i32>("scale").expect_err("not i32").to_string();
    assert!(refused.contains("output \"scale\" is bf16[2, 4]; 8 of i32 was given"), "{refused}");
    let refused = step.set_input("x", &numbers()).expect_err("not f32").to_string();
    assert!(refused.contains("input \"x\" is bf16[2, 4]; 8 of f32 was given"), "{refused}");
}

/// The sum of w·x² over bf16 inputs, in bf16 or f32.
fn weighted(dtype: DType) -> Result<Step, Error> {
    let mut g = Graph::new();
    let x = g.input("x", DType::BF16, &[1, 8])?;
    let w = g.parameter("w", &[1, 8], Init::Values(numbers()))?;
    let wide = g.checkpoint("wide", |g| g.cast(x, DType::F32))?;
    let products = g.linear(wide, w, None)?;
    let loss = g.sum(products)?;
    let loss = if dtype == DType::F32 { loss } else { g.cast(loss, dtype)? };
    let options = Options::new().threads(1).gradients_of([w, x]).policy(CheckpointPolicy::full());
    let mut step = g.compile(loss, options)?;
    step.set_input("x", &as_bf16(&numbers()))?;
    Ok(step)
}

#[test]
fn gradients_of_bf16_inputs_and_of_a_bf16_loss() {
    let expected: f32 = numbers().iter().map(|x| x * x).sum();
    for dtype in [DType::F32, DType::BF16] {
        let mut step = weighted(dtype).expect("compiles");
        assert_eq!(step.run().expect("runs"), bf16::from_f32(expected).to_f32(), "{dtype}");
        // d(w·x)/dx = w, in bf16 as x is; d/dw = x.
        assert_eq!(step.gradient("x").expect("wanted"), numbers(), "{dtype}");
        assert_eq!(step.gradient("w").expect("wanted"), numbers(), "{dtype}");
    }
    let refused = weighted(DType::I32).expect_err("no real number").to_string();
    assert!(refused.contains("i32"), "{refused}");
}
