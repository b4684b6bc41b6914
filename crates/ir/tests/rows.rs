//! Ops that say how they treat rows keep their word: on a few rows at a time they make the rows of the whole, and sums
//! over rows are continued. Plans that run a part of the graph tile by tile rest on this.

use remat_ir::ops::SliceRows;
use remat_ir::{Array, Op, OpDef, Sample, Type};
use std::collections::BTreeSet;

/// Ops of which every sample, or every sample that accumulates, can be cut.
const CUT: &[&str] = &[
    "add",
    "bias_grad",
    "binary",
    "binary_grad",
    "cast",
    "column_scale",
    "column_scale_dw",
    "dropout",
    "gelu",
    "gelu_grad",
    "layer_norm",
    "layer_norm_dw",
    "layer_norm_grad",
    "linear",
    "linear_dw",
    "reduce",
    "reduce_grad",
    "rms_norm",
    "rms_norm_dw",
    "rms_norm_grad",
    "scale",
    "softmax",
    "softmax_grad",
    "swiglu",
    "swiglu_grad",
    "unary",
    "unary_grad",
];

fn eval(op: &Op, inputs: &[Array], types: &[Type]) -> Vec<Array> {
    Sample { op: op.clone(), types: types.to_vec(), inputs: inputs.to_vec() }.eval()
}

fn sliced(array: &Array, ty: &Type, first: usize, rows: usize) -> (Array, Type) {
    let op = Op::from(SliceRows { first, rows });
    let cut = op.infer(&[ty]).expect("these rows are there").remove(0);
    (op.eval(&[array], &[&cut]).remove(0), cut)
}

/// The results of the op run on rows before and from `at` on, put together.
fn in_two(sample: &Sample, by_row: &[usize], at: usize) -> Vec<Array> {
    let total = sample.types[by_row[0]].shape.rows();
    let (mut inputs, mut joined) = (sample.inputs.clone(), Vec::<Array>::new());
    for (first, rows) in [(0, at), (at, total - at)] {
        let mut types = sample.types.clone();
        for &operand in by_row {
            (inputs[operand], types[operand]) = sliced(&sample.inputs[operand], &sample.types[operand], first, rows);
        }
        let op = sample.op.of_rows(first, sample.types[by_row[0]].shape.last());
        assert!(op.is_same_but_for_rows(&sample.op));
        let results = eval(&op, &inputs, &types);
        for (operand, result) in sample.op.donations() {
            inputs[operand] = results[result].clone();
        }
        if sample.op.donations().is_empty() && !joined.is_empty() {
            joined.iter_mut().zip(results).for_each(|(joined, part)| joined.data.extend(part.data));
        } else {
            joined = results;
        }
    }
    joined
}

#[test]
fn what_is_cut_by_rows_gives_the_rows_of_the_whole() {
    let mut covered = BTreeSet::new();
    for sample in Op::samples() {
        let Some(by_row) = sample.op.row_operands() else { continue };
        let rows = sample.types[by_row[0]].shape.rows();
        assert!(by_row.iter().all(|&operand| sample.types[operand].shape.rows() == rows), "{}", sample.op.name());
        let whole = sample.eval();
        for at in [1, rows / 2, rows - 1].into_iter().filter(|&at| at > 0 && at < rows) {
            covered.insert(sample.op.name());
            for (part, whole) in in_two(&sample, &by_row, at).iter().zip(&whole) {
                assert_eq!(part.data.len(), whole.data.len());
                // Sums are in another order; all else is the same computation.
                let bound = if sample.op.donations().is_empty() { 0.0 } else { 1e-12 };
                let far = |(a, b): (&f64, &f64)| (a - b).abs() > bound * b.abs().max(1.0);
                assert!(!part.data.iter().zip(&whole.data).any(far), "{} cut at row {at}", sample.op.name());
            }
        }
    }
    assert!(CUT.iter().all(|name| covered.contains(name)), "{covered:?}");
}

#[test]
fn gradients_that_are_not_added_onto_a_state_cannot_be_cut() {
    for sample in Op::samples() {
        let sums = ["linear_dw", "bias_grad", "rms_norm_dw", "layer_norm_dw"].contains(&sample.op.name());
        if sums {
            assert_eq!(sample.op.row_operands().is_some(), !sample.op.donations().is_empty(), "{}", sample.op.name());
        }
    }
}
