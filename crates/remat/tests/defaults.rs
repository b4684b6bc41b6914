//! What the guide's table of defaults says of a step that is compiled with nothing said.

use remat::{AdamWSettings, DType, Error, Graph, Init, Optimizer, Options, SgdSettings, Tensor, ops};

/// A loss of 3·a + 4·b, a of two axes and b of one; each is 1 at first.
fn sum_of_two() -> Result<(Graph, Tensor), Error> {
    let mut g = Graph::new();
    let (a, b) = (g.parameter("a", &[1, 1], Init::Ones)?, g.parameter("b", &[1], Init::Ones)?);
    let (a, b) = (g.scale(a, 3.0)?, g.scale(b, 4.0)?);
    let sum = g.add(a, b)?;
    let loss = g.sum(sum)?;
    Ok((g, loss))
}

fn near(found: f32, expected: f32) -> bool {
    (found - expected).abs() <= 1e-5 * expected.abs()
}

#[test]
fn regions_are_recomputed_and_gradients_clipped_to_a_norm_of_1() -> Result<(), Error> {
    let (g, loss) = sum_of_two()?;
    let mut step = g.compile(loss, Options::new().optimizer(Optimizer::Sgd(SgdSettings::default())))?;
    assert_eq!(step.policy().to_string(), "full");
    // The loss itself, and a gradient of norm 5: runs add up until an update.
    assert_eq!(step.run()?, 7.0);
    assert_eq!((step.gradient("a")?, step.gradient("b")?), (vec![3.0], vec![4.0]));
    step.run()?;
    assert_eq!((step.gradient("a")?, step.gradient("b")?), (vec![6.0], vec![8.0]));
    step.update(1.0)?;
    let (a, b) = (step.parameter("a")?[0], step.parameter("b")?[0]);
    assert!(near(a, 1.0 - 0.6) && near(b, 1.0 - 0.8), "{a} and {b}");
    assert_eq!((step.gradient("a")?, step.gradient("b")?), (vec![0.0], vec![0.0]));
    Ok(())
}

#[test]
fn nothing_decays_unless_said_and_then_what_has_two_axes() -> Result<(), Error> {
    for (weight_decay, of_matrix) in [(None, 1.0), (Some(0.5), 0.95)] {
        let (g, loss) = sum_of_two()?;
        let unsaid = AdamWSettings::default();
        let settings = AdamWSettings { weight_decay: weight_decay.unwrap_or(unsaid.weight_decay), ..unsaid };
        let mut step = g.compile(loss, Options::new().adamw(settings))?;
        // Without a run gradients are 0, and decay alone moves anything.
        step.update(0.1)?;
        let (a, b) = (step.parameter("a")?[0], step.parameter("b")?[0]);
        assert!(near(a, of_matrix) && b == 1.0, "{weight_decay:?}: {a} and {b}");
    }
    Ok(())
}

#[test]
fn gelu_is_the_tanh_form_and_the_other_can_be_had() -> Result<(), Error> {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[1])?;
    let tanh = g.gelu(x)?;
    let exact = g.op("gelu", ops::Gelu { form: ops::GeluForm::Exact }, &[x])?[0];
    g.output(tanh)?;
    g.output(exact)?;
    let [tanh, exact] = [g.name(tanh)?.to_string(), g.name(exact)?.to_string()];
    let mut step = g.compile_forward(Options::new())?;
    step.set_input("x", &[2.0_f32])?;
    step.run_forward()?;
    // torch.nn.functional.gelu(torch.tensor(2.0), approximate="tanh"), and without it.
    assert!(near(step.output(&tanh)?[0], 1.954_597_7), "{:?}", step.output(&tanh)?);
    assert!(near(step.output(&exact)?[0], 1.954_499_7), "{:?}", step.output(&exact)?);
    Ok(())
}

#[test]
fn cross_entropy_is_a_sum_and_that_of_logits_a_mean_of_the_rows_that_count() -> Result<(), Error> {
    let mut g = Graph::new();
    let head = g.parameter("head", &[4, 2], Init::Zeros)?;
    let x = g.input("x", DType::F32, &[3, 2])?;
    let targets = g.input("targets", DType::I32, &[3])?;
    let sum = g.cross_entropy(x, head, targets)?;
    let logits = g.linear(x, head, None)?;
    let mean = g.cross_entropy_of_logits(logits, targets, remat::CrossEntropyOptions::default())?;
    g.output(sum)?;
    g.output(mean)?;
    let [sum, mean] = [g.name(sum)?.to_string(), g.name(mean)?.to_string()];
    let mut step = g.compile_forward(Options::new())?;
    step.set_input("x", &[1.0_f32; 6])?;
    step.set_input("targets", &[0, -100, 3])?;
    step.run_forward()?;
    // Of four classes that are equally likely.
    assert!(near(step.output(&sum)?[0], 2.0 * 4.0_f32.ln()), "{:?}", step.output(&sum)?);
    assert!(near(step.output(&mean)?[0], 4.0_f32.ln()), "{:?}", step.output(&mean)?);
    Ok(())
}

#[test]
fn dense_starts_as_linear_layers_do_with_a_bias_of_0() -> Result<(), Error> {
    let mut g = Graph::new();
    let x = g.input("x", DType::F32, &[1, 16])?;
    let y = g.dense("fc", x, 64)?;
    let loss = g.sum(y)?;
    let step = g.compile(loss, Options::new())?;
    assert_eq!(step.parameter("fc.bias")?, vec![0.0; 64]);
    let weight = step.parameter("fc.weight")?;
    let bound = 0.25;
    assert!(weight.iter().all(|w| w.abs() <= bound), "beyond 1/√16");
    // Uniform over it: both halves of either side are met about as often.
    let outer = weight.iter().filter(|w| w.abs() > bound / 2.0).count();
    assert!((400..624).contains(&outer), "{outer} of 1024");
    Ok(())
}
