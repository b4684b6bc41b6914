//! Every op's samples on the CPU executor, at every level this machine runs, against the naive f64 definition.

use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions, Level};
use remat_ir::{Array, Builder, Op, OpDef, Sample, Storage};
use remat_plan::{Device, Policy};
use remat_tensor::DType;
use remat_testkit::{RunResult, run_plan};
use std::collections::{BTreeSet, HashMap};

/// A graph of the sample's one op. Donated operands become states, everything else an input.
fn graph_of(sample: &Sample) -> (remat_ir::Graph, HashMap<String, Array>) {
    let mut b = Builder::new();
    let donated: Vec<usize> = sample.op.donations().into_iter().map(|(operand, _)| operand).collect();
    let mut sources = HashMap::new();
    let mut operands = Vec::new();
    for (index, (ty, array)) in sample.types.iter().zip(&sample.inputs).enumerate() {
        let name = format!("operand{index}");
        sources.insert(name.clone(), array.clone());
        let state = donated.contains(&index);
        operands.push(match ty.dtype.quant_format() {
            Some(_) => b.weight(&name, ty.clone()),
            None if state => b.state(&name, ty.clone()),
            None => b.input(&name, ty.clone()),
        });
    }
    let results = b.op("op", sample.op.clone(), &operands).expect("a valid sample");
    for result in results {
        if b.graph().value(result).storage == Storage::Arena {
            b.output(result);
        }
    }
    (b.finish(), sources)
}

fn run(sample: &Sample, level: Level, threads: usize) -> Vec<Array> {
    let (graph, sources) = graph_of(sample);
    let options = CpuOptions { threads, level };
    let plan = compile(graph.clone(), &Policy::None, &options.profile()).expect("one op compiles");
    let result: RunResult = run_plan(&mut CpuExecutor::new(options), plan, &sources).expect("runs");
    let node = &graph.nodes[0];
    node.outputs.iter().map(|&id| result.array(&graph.value(graph.storage_root(id)).name, graph.ty(id))).collect()
}

/// Every sample as it is, and with bf16 activations where the op takes them.
fn samples() -> impl Iterator<Item = Sample> {
    let both = |sample: Sample| [sample.with_activations(DType::BF16), Some(sample)];
    Op::samples().into_iter().flat_map(both).flatten()
}

/// How far a kernel may be from the definition: 64 roundings in f32 of the largest magnitude that enters any sum, which
/// is what the sum of absolute terms of the definition itself shows; and one rounding of each result to its dtype. A
/// kernel may hand a bf16 matrix product what it made itself (probabilities, cotangents of logits), rounded as the
/// operands are: that may cost as much again.
fn tolerance(sample: &Sample, want: &Array, result: DType) -> f64 {
    let magnitude = |array: &Array| array.data.iter().fold(0.0f64, |m, x| m.max(x.abs()));
    let inputs = sample
        .types
        .iter()
        .zip(&sample.inputs)
        .filter(|(ty, _)| ty.dtype.is_float() || ty.dtype.quant_format().is_some());
    let largest_input = inputs.map(|(_, array)| magnitude(array)).fold(1.0, f64::max);
    let terms = match &sample.op {
        op if op.is_contraction() => sample.types[0].shape.last().max(sample.types[0].shape.rows()) as f64,
        _ => 4.0,
    };
    let rounds_inside = matches!(
        sample.op,
        Op::Attention(_)
            | Op::AttentionGrad(_)
            | Op::MaskedAttention(_)
            | Op::MaskedAttentionGrad(_)
            | Op::LinearCrossEntropyGrad(_)
            | Op::LinearCrossEntropyWithGrad(_)
    );
    let inside = if rounds_inside && sample.types[0].dtype == DType::BF16 { DType::BF16.epsilon() } else { 0.0 };
    64.0 * f64::from(f32::EPSILON) * (magnitude(want) + largest_input * largest_input * terms.sqrt())
        + (result.epsilon() / 2.0 + inside) * magnitude(want)
}

#[test]
fn every_op_matches_its_definition_at_every_level() {
    let mut covered = BTreeSet::new();
    for sample in samples() {
        covered.insert(sample.op.name());
        let wanted = sample.eval();
        let types = sample.op.infer(&sample.types.iter().collect::<Vec<_>>()).expect("a valid sample");
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            for (index, (got, want)) in run(&sample, level, 2).iter().zip(&wanted).enumerate() {
                let bound = tolerance(&sample, want, types[index].dtype);
                for (at, (&x, &y)) in got.data.iter().zip(&want.data).enumerate() {
                    let near = (x - y).abs() <= bound || (x.is_nan() && y.is_nan());
                    let op = sample.op.name();
                    assert!(
                        near,
                        "{op} at {level}: result {index}[{at}] is {x}, not {y} (bound {bound:e})\n{sample:?}"
                    );
                }
            }
        }
    }
    let all: BTreeSet<&str> = Op::NAMES.iter().copied().collect();
    assert_eq!(covered, all, "every op has samples");
}

#[test]
fn every_op_gives_the_same_bits_on_any_number_of_threads() {
    for sample in samples() {
        for level in Level::ALL.into_iter().filter(|level| level.is_available()) {
            // Widening to f64 keeps every bit of a number.
            let bits = |threads: usize| -> Vec<Vec<u64>> {
                let results = run(&sample, level, threads);
                results.iter().map(|array| array.data.iter().map(|x| x.to_bits()).collect()).collect()
            };
            let one = bits(1);
            for threads in [2, 3, 4] {
                assert_eq!(one, bits(threads), "{} at {level}, {threads} threads", sample.op.name());
            }
        }
    }
}

#[test]
fn operands_of_two_dtypes_are_refused_at_load() {
    let sample = Op::samples().into_iter().find(|sample| sample.op.name() == "linear").expect("linear has samples");
    let (graph, _) = graph_of(&sample.in_dtype(1, DType::BF16));
    let options = CpuOptions::new(1);
    let plan = compile(graph, &Policy::None, &options.profile()).expect("compiles");
    let error = CpuExecutor::new(options).load(vec![plan]).expect_err("refused").to_string();
    assert!(error.contains("linear has no kernel for f32[1, 6, 5] with bf16[7, 5] here"), "{error}");
}
