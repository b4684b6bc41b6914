//! Attention crossed, masked, causal, of three widths: outputs and gradients of parameters and sequences.

use crate::reference::Reference;
use remat::modules::{InProjection, MultiHeadAttention, MultiHeadAttentionOptions};
use remat::{CheckpointPolicy, DType, Error, Graph, Options, Step, Tensor};

/// The sequences of a case: a key that it does not have is the query, a value the key.
fn sequences(g: &mut Graph, of: &Reference) -> Result<[Tensor; 3], Error> {
    let query = g.input("query", DType::F32, &of.shape("query"))?;
    let key = if of.has("key") { g.input("key", DType::F32, &of.shape("key"))? } else { query };
    let value = if of.has("value") { g.input("value", DType::F32, &of.shape("value"))? } else { key };
    Ok([query, key, value])
}

fn step(of: &Reference, causal: bool, policy: CheckpointPolicy) -> Result<Step, Error> {
    let mut g = Graph::new();
    let [query, key, value] = sequences(&mut g, of)?;
    let last = |g: &Graph, x: Tensor| Ok::<_, Error>(g.ty(x)?.shape.last());
    let options = MultiHeadAttentionOptions {
        bias: of.has("attn.in_proj_bias"),
        key_width: Some(last(&g, key)?),
        value_width: Some(last(&g, value)?),
        ..MultiHeadAttentionOptions::default()
    };
    let mask = of.has("mask").then(|| {
        let dtype = if of.is_i32("mask") { DType::I32 } else { DType::F32 };
        g.input("mask", dtype, &of.shape("mask"))
    });
    let mask = mask.transpose()?;
    let width = last(&g, query)?;
    let module = MultiHeadAttention::new(&mut g, "attn", width, 2, options)?;
    let y = g.checkpoint("block", |g| module.forward(g, [query, key, value], mask, causal))?;
    g.output(y)?;
    let dy = g.input("dy", DType::F32, &of.shape("dy"))?;
    let product = g.checkpoint("end", |g| g.mul(y, dy))?;
    let loss = g.sum(product)?;
    let wanted = parameters(&module).into_iter().chain([query, key, value]);
    g.compile(loss, Options::new().policy(policy).threads(1).gradients_of(wanted))
}

fn parameters(module: &MultiHeadAttention) -> Vec<Tensor> {
    let mut parameters = match module.in_proj {
        InProjection::Joint(weight) => vec![weight],
        InProjection::Separate(weights) => weights.to_vec(),
    };
    parameters.push(module.out_proj.weight);
    parameters.extend(module.in_proj_bias.into_iter().chain(module.out_proj.bias));
    parameters
}

#[test]
fn outputs_and_gradients_are_torchs() {
    let cases = Reference::open("attention").cases();
    assert_eq!(cases.len(), 7);
    for case in cases {
        let reference = Reference::case("attention", &case);
        let mut bits = Vec::new();
        for policy in [CheckpointPolicy::none(), CheckpointPolicy::full()] {
            let mut step = step(&reference, case == "itself_causal", policy).expect("compiles");
            reference.load_into(&mut step);
            for name in ["query", "key", "value", "dy"].into_iter().filter(|name| reference.has(name)) {
                step.set_input(name, &reference.read(name)).expect("fits");
            }
            if reference.has("mask") && reference.is_i32("mask") {
                step.set_input("mask", &reference.read_i32("mask")).expect("fits");
            } else if reference.has("mask") {
                step.set_input("mask", &reference.read("mask")).expect("fits");
            }
            step.run().expect("runs");
            let y = step.plan().graph.outputs.iter().map(|&id| step.plan().graph.value(id).name.clone());
            let y = y.into_iter().find(|name| name.contains("linear")).expect("the output of the module");
            let y = step.output(&y).expect("an output");
            reference.assert_near(&y, "y");
            reference.assert_gradients_near(&step);
            let gradients = step.parameter_names().into_iter().flat_map(|name| step.gradient(name).expect("its own"));
            bits.push(y.iter().copied().chain(gradients).map(f32::to_bits).collect::<Vec<_>>());
        }
        assert_eq!(bits[0], bits[1], "{case}: other bits with recomputation");
    }
}

/// [2, 5, 8] of a module with dropout: what each of `runs` makes.
fn dropped(mut g: Graph, runs: usize) -> Result<Vec<Vec<f32>>, Error> {
    let x = g.input("x", DType::F32, &[2, 5, 8])?;
    let options = MultiHeadAttentionOptions { dropout: 0.4, ..MultiHeadAttentionOptions::default() };
    let module = MultiHeadAttention::new(&mut g, "attn", 8, 2, options)?;
    let y = module.forward(&mut g, [x; 3], None, true)?;
    g.output(y)?;
    let (name, loss) = (g.name(y)?.to_string(), g.sum(y)?);
    let mut step = g.compile(loss, Options::new().threads(1).seed(5))?;
    step.set_input("x", &(0..80).map(|i| ((i * 37) % 41) as f32 / 20.0 - 1.0).collect::<Vec<_>>())?;
    (0..runs).map(|_| step.run().and_then(|_| step.output(&name))).collect()
}

#[test]
fn pairs_are_dropped_in_training_and_not_in_evaluation() {
    let runs = 4000;
    let plain = dropped(Graph::evaluation(), 2).expect("runs");
    assert_eq!(plain[0], plain[1]);
    let all = dropped(Graph::new(), runs).expect("runs");
    assert!(all[0] != plain[0] && all[0] != all[1]);
    // Row by row the mean over many masks is what nothing dropped gives.
    for (at, &wanted) in plain[0].iter().enumerate() {
        let mean = all.iter().map(|y| f64::from(y[at])).sum::<f64>() / runs as f64;
        let square = all.iter().map(|y| (f64::from(y[at]) - mean).powi(2)).sum::<f64>() / runs as f64;
        let error = (square / runs as f64).sqrt();
        assert!((mean - f64::from(wanted)).abs() <= 5.0 * error + 1e-6, "{at}: {mean} instead of {wanted} ± {error}");
    }
}
