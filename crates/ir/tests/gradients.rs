//! Every vector-Jacobian product against central differences in f64, over all samples.
//!
//! Method: for cotangents c of the results and random directions u of the operands, Σ c·(y(x + hu) − y(x − hu))/2h must
//! equal Σ vjp(c)·u. Look next at `meaning.rs` for tests of `eval` itself.

use remat_ir::{Array, Builder, Graph, Interpreter, Op, OpDef, Phase, Sample, ValueId, Vjp};
use remat_tensor::Philox;
use std::collections::{HashMap, HashSet};

/// Ops that must have a derivative. Another one may refuse; if it does not, its derivative is held to differences, too.
const DIFFERENTIABLE: &[&str] = &[
    "embedding",
    "linear",
    "grouped_linear",
    "rms_norm",
    "layer_norm",
    "rope",
    "attention",
    "masked_attention",
    "swiglu",
    "gelu",
    "geglu",
    "softcap",
    "add",
    "scale",
    "cast",
    "dropout",
    "split",
    "concat",
    "linear_cross_entropy",
    "conv2d",
    "pool2d",
    "group_norm",
    "batch_norm",
    "cross_entropy",
    "pair_loss",
    "sum",
    "broadcast",
    "unary",
    "binary",
    "reduce",
    "expand",
    "reshape",
    "transpose",
    "slice",
    "pad",
    "softmax",
    "matmul",
    "gather",
    "gather_grad",
    "take_along_axis",
    "select",
    "masked_fill",
    "column_scale",
];

/// Real operands that are tables or only give their memory, not variables: (op, operand).
const CONSTANT: &[(&str, usize)] = &[
    ("rope", 2),
    ("cast", 1),
    ("cross_entropy", 2),
    ("pair_loss", 2),
    ("masked_attention", 3),
    ("batch_norm", 3),
    ("batch_norm", 4),
    ("column_scale", 2),
];

/// Results that are statistics without a derivative: ops all of whose results but the first are such.
const WITH_STATISTICS: &[&str] =
    &["rms_norm", "layer_norm", "attention", "masked_attention", "cross_entropy", "group_norm", "batch_norm"];

const STEP: f64 = 4e-5;
const TOLERANCE: f64 = 1e-6;

/// Whether the op of a sample has a derivative; if not, it says so by name.
fn is_differentiable(sample: &Sample) -> bool {
    if sample.types.is_empty() {
        return false;
    }
    let Err(error) = Backward::build(sample, &needs(sample)) else { return true };
    let (name, error) = (sample.op.name(), error.to_string());
    assert!(error.starts_with(&format!("{name} \"forward\": no derivative: ")), "{error}");
    assert!(!DIFFERENTIABLE.contains(&name), "{error}");
    false
}

#[test]
fn vector_jacobian_products_match_central_differences() {
    let (mut found, mut covered) = (HashSet::new(), HashSet::new());
    for (number, sample) in Op::samples().iter().enumerate() {
        let name = sample.op.name();
        if !is_differentiable(sample) {
            continue;
        }
        found.insert(name);
        let needs = needs(sample);
        let backward = Backward::new(sample, &needs);
        // A sample without any slope, such as one with every target masked, covers nothing.
        if (0..3).filter(|&round| check(sample, &backward, number as u64, round)).count() == 3 {
            covered.insert(name);
        }
    }
    assert_eq!(covered, found, "each has a sample with a slope");
    assert!(DIFFERENTIABLE.iter().all(|name| covered.contains(name)), "{covered:?}");
}

#[test]
fn a_cotangent_does_not_depend_on_which_others_are_wanted() {
    for sample in Op::samples().iter().filter(|sample| is_differentiable(sample)) {
        let needs = needs(sample);
        let cotangents = random(&Backward::new(sample, &needs).seeds(), 5);
        let all = Backward::new(sample, &needs).run(sample, &cotangents);
        for operand in (0..needs.len()).filter(|&operand| needs[operand]) {
            let alone: Vec<bool> = (0..needs.len()).map(|other| other == operand).collect();
            let one = Backward::new(sample, &alone).run(sample, &cotangents);
            assert_eq!(one[operand], all[operand], "{}, operand {operand}", sample.op.name());
            assert_eq!(one.iter().flatten().count(), 1, "{}: only operand {operand} was wanted", sample.op.name());
        }
    }
}

#[test]
fn a_cotangent_of_a_statistic_is_refused_and_not_dropped() {
    for name in WITH_STATISTICS {
        let sample = Op::samples().into_iter().find(|sample| sample.op.name() == *name).expect("a sample");
        let (mut builder, inputs, outputs) = forward(&sample);
        let cotangents: Vec<Option<ValueId>> = outputs.iter().copied().map(Some).collect();
        let mut cx = Vjp {
            builder: &mut builder,
            name: "forward",
            inputs: &inputs,
            outputs: &outputs,
            cotangents: &cotangents,
            needs: &vec![true; inputs.len()],
        };
        let error = sample.op.vjp(&mut cx).expect_err("it must refuse").to_string();
        assert!(error.contains("a statistic of it is used downstream"), "{error}");
    }
}

#[test]
fn pieces_of_a_split_that_nothing_reads_get_zeros() {
    let sample = Op::samples().into_iter().filter(|sample| sample.op.name() == "split").nth(2).expect("three pieces");
    let (mut builder, inputs, outputs) = forward(&sample);
    let seed = builder.input("seed", builder.ty(outputs[1]).clone());
    let mut cx = Vjp {
        builder: &mut builder,
        name: "forward",
        inputs: &inputs,
        outputs: &outputs,
        cotangents: &[None, Some(seed), None],
        needs: &[true],
    };
    let dx = sample.op.vjp(&mut cx).expect("differentiable")[0].expect("wanted");
    let graph = builder.finish();
    remat_ir::verify(&graph).expect("valid");
    let ones = Array::zeros(graph.ty(seed).shape.clone()).map(|_| 1.0);
    let sources = HashMap::from([("x0".to_string(), sample.inputs[0].clone()), ("seed".to_string(), ones)]);
    let values = Interpreter::exact().run(&graph, &sources).expect("runs");
    let row: Vec<f64> = (0..21).map(|i| if (1..18).contains(&i) { 1.0 } else { 0.0 }).collect();
    for n in 0..14 {
        assert_eq!(values[dx.index()].row(n), row);
    }
}

/// The operands that a derivative is checked for: real numbers that are not tables.
fn needs(sample: &Sample) -> Vec<bool> {
    let name = sample.op.name();
    let real = |(index, ty): (usize, &remat_ir::Type)| ty.dtype.is_float() && !CONSTANT.contains(&(name, index));
    sample.types.iter().enumerate().map(real).collect()
}

fn forward(sample: &Sample) -> (Builder, Vec<ValueId>, Vec<ValueId>) {
    let mut builder = Builder::new();
    let sources = sample.types.iter().enumerate();
    // States, so that ops that update in place can be applied too.
    let mut source = |(i, ty): (usize, &remat_ir::Type)| match ty.dtype.quant_format() {
        None => builder.state(&format!("x{i}"), ty.clone()),
        Some(_) => builder.weight(&format!("x{i}"), ty.clone()),
    };
    let inputs: Vec<ValueId> = sources.map(&mut source).collect();
    let outputs = builder.op("forward", sample.op.clone(), &inputs).expect("samples are valid");
    (builder, inputs, outputs)
}

/// A graph of one op and its vector-Jacobian product.
struct Backward {
    graph: Graph,
    /// The differentiable results and the sources of their cotangents.
    seeds: Vec<(ValueId, ValueId)>,
    cotangents: Vec<Option<ValueId>>,
}

impl Backward {
    fn new(sample: &Sample, needs: &[bool]) -> Self {
        Backward::build(sample, needs).expect("differentiable")
    }

    fn build(sample: &Sample, needs: &[bool]) -> Result<Self, remat_ir::IrError> {
        let (mut builder, inputs, outputs) = forward(sample);
        let count = if WITH_STATISTICS.contains(&sample.op.name()) { 1 } else { outputs.len() };
        let mut seeds = Vec::new();
        for (index, &output) in outputs[..count].iter().enumerate() {
            let ty = builder.ty(output).clone();
            seeds.push((output, builder.input(&format!("c{index}"), ty)));
        }
        let mut given: Vec<Option<ValueId>> = seeds.iter().map(|seed| Some(seed.1)).collect();
        given.resize(outputs.len(), None);
        builder.set_context(Phase::Backward, None);
        let cotangents = sample.op.vjp(&mut Vjp {
            builder: &mut builder,
            name: "forward",
            inputs: &inputs,
            outputs: &outputs,
            cotangents: &given,
            needs,
        })?;
        assert_eq!(cotangents.len(), inputs.len(), "{}: one cotangent per operand", sample.op.name());
        for (index, &need) in needs.iter().enumerate() {
            assert_eq!(cotangents[index].is_some(), need, "{}, operand {index}", sample.op.name());
        }
        let graph = builder.finish();
        remat_ir::verify(&graph)?;
        Ok(Backward { graph, seeds, cotangents })
    }

    fn seeds(&self) -> Vec<Array> {
        self.seeds.iter().map(|seed| Array::zeros(self.graph.ty(seed.1).shape.clone())).collect()
    }

    fn run(&self, sample: &Sample, cotangents: &[Array]) -> Vec<Option<Array>> {
        let operands = sample.inputs.iter().enumerate().map(|(i, array)| (format!("x{i}"), array.clone()));
        let seeds = cotangents.iter().enumerate().map(|(i, array)| (format!("c{i}"), array.clone()));
        let values = Interpreter::exact().run(&self.graph, &operands.chain(seeds).collect()).expect("runs");
        self.cotangents.iter().map(|id| id.map(|id| values[id.index()].clone())).collect()
    }
}

/// Standard normal numbers in the shapes of `like`.
fn random(like: &[Array], key: u64) -> Vec<Array> {
    let fill = |(stream, array): (usize, &Array)| {
        let philox = Philox::new(key, stream as u64);
        let data = (0..array.data.len() as u64).map(|i| f64::from(philox.normal(i))).collect();
        Array::new(array.shape.clone(), data)
    };
    like.iter().enumerate().map(fill).collect()
}

/// Checks one random direction; whether it had a slope at all.
fn check(sample: &Sample, backward: &Backward, number: u64, round: u64) -> bool {
    let cotangents = random(&backward.seeds(), 1000 + number * 10 + round);
    let directions = random(&sample.inputs, 9000 + number * 10 + round);
    let gradient = backward.run(sample, &cotangents);
    let moved = |sign: f64| {
        let mut moved = sample.clone();
        for (index, operand) in moved.inputs.iter_mut().enumerate().filter(|(index, _)| gradient[*index].is_some()) {
            *operand = operand.zip(&directions[index], |x, u| x + sign * STEP * u);
        }
        moved.eval()
    };
    let slope = |steps: f64| {
        let (ahead, behind) = (moved(steps), moved(-steps));
        let pairs = ahead.iter().zip(&behind).zip(&cotangents);
        let sums = pairs.map(|((a, b), c)| {
            a.zip(b, |a, b| (a - b) / (2.0 * steps * STEP)).zip(c, |slope, c| slope * c).data.iter().sum::<f64>()
        });
        sums.sum::<f64>()
    };
    // Two differences together have an error of the fourth order in the step (Richardson).
    let numeric = (4.0 * slope(1.0) - slope(2.0)) / 3.0;
    let terms = gradient.iter().zip(&directions).filter_map(|(g, u)| Some(g.as_ref()?.zip(u, |g, u| g * u).data));
    let terms: Vec<f64> = terms.flatten().collect();
    let analytic: f64 = terms.iter().sum();
    // Terms may cancel; the root of their squares is the size of the sum of as many independent ones.
    let size = terms.iter().map(|t| t * t).sum::<f64>().sqrt();
    let error = (numeric - analytic).abs();
    let name = sample.op.name();
    assert!(
        error <= TOLERANCE * size + 1e-9,
        "{name} (sample {number}): {numeric} against {analytic}, off {error:.1e}"
    );
    size > 1e-3
}
