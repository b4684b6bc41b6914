//! Every op's samples on the CPU executor, at every level this machine runs, against the naive f64 definition.

use remat_compiler::compile;
use remat_cpu::{CpuExecutor, CpuOptions, Level};
use remat_ir::{Array, Op, OpDef, Sample};
use remat_plan::{Device, Policy};
use remat_tensor::DType;
use remat_testkit::op_samples::{graph_of, run_sample, samples, tolerance};
use std::collections::BTreeSet;

fn run(sample: &Sample, level: Level, threads: usize) -> Vec<Array> {
    run_sample(&mut CpuExecutor::new(CpuOptions { threads, level }), sample).expect("runs")
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
