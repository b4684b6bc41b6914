//! Refusals of ops that walk tensors by axes, masks and ids.

use remat_ir::Op;
use remat_ir::ops::*;

/// The same of the ops that walk tensors by axes.
pub fn refusals() -> Vec<(Op, &'static str, &'static str)> {
    let binary = |a, b| Binary { function: BinaryFunction::Mul, a, b };
    let reduce = |axes: &[i64]| Reduce { reduction: Reduction::Sum, axes: axes.to_vec() };
    let slice = |starts: &[usize], ends: &[usize], steps: &[usize]| Slice {
        starts: starts.to_vec(),
        ends: ends.to_vec(),
        steps: steps.to_vec(),
    };
    let pad = |value, high: &[usize]| Pad {
        low: vec![1; high.len()],
        high: high.to_vec(),
        between: vec![0; high.len()],
        value,
    };
    vec![
        (Unary { function: UnaryFunction::Relu }.into(), "i32[2]", "x i32[2] must hold real numbers"),
        (
            Unary { function: UnaryFunction::Clamp { min: 1.0, max: 0.5 } }.into(),
            "f32[2]",
            "attributes min = 1 and max = 0.5: min must be at most max",
        ),
        (
            UnaryGrad { function: UnaryFunction::Tanh }.into(),
            "f32[2] f32[3]",
            "dy f32[2] and y f32[3] must have one type",
        ),
        (
            binary(Extent::Any, Extent::Any).into(),
            "f32[2, 3] f32[2]",
            "a f32[2, 3] and b f32[2] do not broadcast: sizes must be equal or 1",
        ),
        (binary(Extent::Any, Extent::Any).into(), "f32[2] bf16[2]", "a f32[2] and b bf16[2] must have one dtype"),
        (
            binary(Extent::Whole, Extent::Whole).into(),
            "f32[2, 3] f32[3]",
            "attribute b = \"whole\" does not hold of b f32[3] in a result [2, 3]",
        ),
        (
            Compare { relation: Relation::Less }.into(),
            "i32[2] f32[2]",
            "a i32[2] and b f32[2] must have one dtype, of real numbers or i32",
        ),
        (reduce(&[-3]).into(), "f32[2, 3]", "attribute axes = [-3]: x f32[2, 3] has no axis -3 from the last"),
        (reduce(&[0]).into(), "f32[2, 3]", "attribute axes = [0]: x f32[2, 3] has no axis 0 from the last"),
        (reduce(&[-1, -2]).into(), "f32[2, 3]", "attribute axes = [-1, -2] must ascend, and -1 stands before -2"),
        (reduce(&[]).into(), "f32[2, 3]", "attribute axes = [] must name an axis"),
        (ReduceGrad { axes: vec![-1] }.into(), "f32[2] f32[2, 3] f32[2, 1]", "dy f32[2] must be f32[2, 1]"),
        (
            Expand { shape: vec![2, 3] }.into(),
            "f32[2]",
            "x f32[2] does not broadcast to [2, 3]: sizes must be equal or 1",
        ),
        (Expand { shape: vec![1; 9] }.into(), "f32[1]", "the shape [1, 1, 1, 1, 1, 1, 1, 1, 1] has more than 8 axes"),
        (
            Reshape { shape: vec![4, 2] }.into(),
            "f32[2, 3]",
            "attribute shape = [4, 2] does not hold the 6 elements of x f32[2, 3]",
        ),
        (
            Transpose { permutation: vec![0, 0] }.into(),
            "f32[2, 3]",
            "attribute permutation = [0, 0] does not order the axes of x f32[2, 3]",
        ),
        (slice(&[1], &[4], &[1]).into(), "f32[3]", "axis 0 of x f32[3] has no elements 1..4 by step 1"),
        (slice(&[1], &[2], &[0]).into(), "f32[3]", "axis 0 of x f32[3] has no elements 1..2 by step 0"),
        (
            slice(&[1], &[2], &[1]).into(),
            "f32[3, 2]",
            "attributes starts, ends and steps must have one number for each axis of x f32[3, 2]",
        ),
        (pad(f32::NAN, &[0]).into(), "f32[3]", "attribute value = NaN must be a number, and 0 in x f32[3] of integers"),
        (pad(1.0, &[0]).into(), "i32[3]", "attribute value = 1 must be a number, and 0 in x i32[3] of integers"),
        (pad(0.0, &[usize::MAX]).into(), "f32[3]", "the padded axis is too large"),
        (
            Concat { groups: 1, behind: 1 }.into(),
            "f32[2, 3] f32[2, 4]",
            "operand 1 f32[2, 4] and operand 0 f32[2, 3] may differ in axis 0 only",
        ),
        (Concat { groups: 1, behind: 2 }.into(), "f32[2, 3]", "operand 0 f32[2, 3] has no axis with 2 behind it"),
        (
            Split { sizes: vec![1], groups: 2, behind: 1 }.into(),
            "f32[2, 3]",
            "attribute groups = 2 is for the last axis",
        ),
        (
            Split { sizes: vec![1], groups: 1, behind: 1 }.into(),
            "f32[2, 3]",
            "attribute sizes = [1] does not add up to axis 0 of x f32[2, 3]",
        ),
    ]
}
