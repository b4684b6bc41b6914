//! `infer` over dtypes and over random types and attributes: it never panics, and what it accepts can be asked for cost,
//! workspace and donations. Look next at `refusals.rs` for its messages.

use proptest::prelude::*;
use remat_ir::ops::*;
use remat_ir::{Op, OpDef, Sample, Type};
use remat_tensor::{DType, Shape};
use std::sync::LazyLock;

/// Made once: samples of gradient ops evaluate their forward.
static SAMPLES: LazyLock<Vec<Sample>> = LazyLock::new(Op::samples);

fn ty(text: &str) -> Type {
    let (dtype, shape) = text.split_once('[').expect("a shape");
    let dims = shape.trim_end_matches(']').split(", ").filter(|d| !d.is_empty()).map(|d| d.parse().expect("a number"));
    Type::new(dtype.parse::<DType>().expect("a dtype"), dims.collect::<Vec<usize>>())
}

#[test]
fn activations_may_be_bf16_while_statistics_and_gradients_stay_f32() {
    let mut accepted = std::collections::HashSet::new();
    for sample in SAMPLES.iter() {
        let Some(rounded) = sample.with_activations(DType::BF16) else { continue };
        let results = rounded.op.infer(&rounded.types.iter().collect::<Vec<_>>()).expect("as chosen");
        accepted.insert(sample.op.name());
        assert!(rounded.types.iter().any(|ty| ty.dtype == DType::BF16) && !results.is_empty());
    }
    for name in ["embedding", "linear", "rms_norm", "layer_norm", "attention", "swiglu", "gelu", "add", "dropout"] {
        assert!(accepted.contains(name), "{name} must take bf16 operands");
    }
    for name in ["sum", "broadcast", "grad_norm", "clip_scale", "clip_value", "adamw", "adamw8bit", "sgd", "lion"] {
        assert!(!accepted.contains(name), "{name} works on f32 alone");
    }
    let infer = |op: Op, types: &[&str]| {
        let types: Vec<Type> = types.iter().map(|text| ty(text)).collect();
        op.infer(&types.iter().collect::<Vec<_>>()).expect("valid").iter().map(Type::to_string).collect::<Vec<_>>()
    };
    let norm = infer(RmsNorm { eps: 1e-5, unit_offset: false }.into(), &["bf16[2, 4]", "bf16[4]"]);
    assert_eq!(norm, ["bf16[2, 4]", "f32[2, 1]"]);
    let dw = infer(
        LinearDw { layout: Layout::OutIn, alpha: 1.0, accumulate: true }.into(),
        &["bf16[2, 4]", "bf16[2, 3]", "f32[3, 4]"],
    );
    assert_eq!(dw, ["f32[3, 4]"]);
    let head_grad =
        |bias: bool| LinearCrossEntropyGrad { dh: true, dw: true, db: bias, bias, ..LinearCrossEntropyGrad::NONE };
    let head =
        infer(LinearCrossEntropyWithGrad(head_grad(false)).into(), &["bf16[3, 4]", "bf16[9, 4]", "i32[3]", "f32[3]"]);
    assert_eq!(head, ["f32[3]", "bf16[3, 4]", "f32[9, 4]"]);
    let biased = infer(head_grad(true).into(), &["bf16[3, 4]", "bf16[9, 4]", "bf16[9]", "i32[3]", "f32[3]"]);
    assert_eq!(biased, ["bf16[3, 4]", "f32[9, 4]", "f32[9]"]);
    assert_eq!(infer(Accumulate.into(), &["f32[3]", "bf16[3]"]), ["f32[3]"]);
}

fn dimension() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0usize..9,
        1 => prop::sample::select(vec![64, 1 << 24, 1 << 31, 1 << 47, 1 << 48, 1 << 63, usize::MAX]),
    ]
}

fn any_type() -> impl Strategy<Value = Type> {
    let dtype =
        prop_oneof![4 => Just(DType::F32), 2 => Just(DType::I32), 1 => prop::sample::select(DType::ALL.to_vec())];
    (dtype, prop::collection::vec(dimension(), 0..5)).prop_map(|(dtype, dims)| Type::new(dtype, Shape::new(dims)))
}

fn any_float() -> impl Strategy<Value = f32> {
    prop_oneof![4 => 0f32..1.0, 1 => prop::sample::select(vec![0.0, -1.0, 1.0, f32::MAX, f32::INFINITY, f32::NAN])]
}

/// Those of the ops that walk by strides.
fn any_walk() -> impl Strategy<Value = Op> {
    let numbers = || prop::collection::vec(dimension(), 0..5);
    let axes = || prop::collection::vec(-6i64..3, 0..4);
    prop_oneof![
        numbers().prop_map(|shape| Expand { shape }.into()),
        numbers().prop_map(|shape| Reshape { shape }.into()),
        numbers().prop_map(|permutation| Transpose { permutation }.into()),
        (numbers(), numbers(), numbers()).prop_map(|(starts, ends, steps)| Slice { starts, ends, steps }.into()),
        (numbers(), numbers(), numbers(), any_float()).prop_map(|(low, high, between, value)| Pad {
            low,
            high,
            between,
            value
        }
        .into()),
        axes().prop_map(|axes| Reduce { reduction: Reduction::Mean, axes }.into()),
        axes().prop_map(|axes| ReduceGrad { axes }.into()),
        dimension().prop_map(|axis| Gather { axis }.into()),
        dimension().prop_map(|axis| TakeAlongAxis { axis }.into()),
        (dimension(), dimension()).prop_map(|(axis, size)| GatherGrad { axis, size }.into()),
        (dimension(), dimension()).prop_map(|(axis, size)| TakeAlongAxisGrad { axis, size }.into()),
        (any_float(), any_float()).prop_map(|(min, max)| Unary { function: UnaryFunction::Clamp { min, max } }.into()),
        any_float().prop_map(|exponent| Unary { function: UnaryFunction::Pow { exponent } }.into()),
    ]
}

/// Any op with attributes that no one would choose. Ops whose attributes cannot be wrong come from the samples.
fn any_op() -> impl Strategy<Value = Op> {
    let sizes = || prop::collection::vec(dimension(), 0..4);
    let heads = (dimension(), dimension(), any_float(), prop::option::of(dimension()), any_float());
    let attention = heads.prop_map(|(heads, kv_heads, scale, window, dropout)| Attention {
        heads,
        kv_heads,
        scale,
        window,
        softcap: None,
        dropout,
        stream: 0,
    });
    prop_oneof![
        3 => any_walk(),
        6 => prop::sample::select(SAMPLES.iter().map(|sample| sample.op.clone()).collect::<Vec<_>>()),
        2 => (attention, any::<bool>()).prop_map(|(op, grad)| if grad { AttentionGrad::of(&op).into() } else { op.into() }),
        1 => (dimension(), any_float()).prop_map(|(head_size, scale)| Rope { head_size, inverse: true, scale }.into()),
        1 => (sizes(), dimension(), 0usize..4).prop_map(|(sizes, groups, behind)| Split { sizes, groups, behind }.into()),
        1 => (dimension(), 0usize..4).prop_map(|(groups, behind)| Concat { groups, behind }.into()),
        1 => sizes().prop_map(|shape| Zeros { dtype: DType::BF16, shape }.into()),
        1 => sizes().prop_map(|shape| Broadcast { shape }.into()),
        1 => (dimension(), any::<bool>()).prop_map(|(rows, accumulate)| EmbeddingGrad { rows, accumulate }.into()),
        1 => any_float().prop_map(|p| Dropout::new(p, 1).into()),
        1 => (dimension(), dimension()).prop_map(|(first, rows)| SliceRows { first, rows }.into()),
        1 => dimension().prop_map(|first| WriteRows { first }.into()),
        1 => any_float().prop_map(|eps| RmsNorm { eps, unit_offset: false }.into()),
    ]
}

/// Infers, and exercises all that may be asked about a node whose types were accepted.
fn exercise(op: &Op, types: &[Type]) -> Result<bool, TestCaseError> {
    let inputs: Vec<&Type> = types.iter().collect();
    let Ok(results) = op.infer(&inputs) else { return Ok(false) };
    let outputs: Vec<&Type> = results.iter().collect();
    let cost = op.cost(&inputs, &outputs);
    prop_assert!(cost.flops.is_finite() && cost.flops >= 0.0 && cost.bytes.is_finite());
    for (operand, result) in op.donations().into_iter().chain(op.in_place()) {
        // Bytes are shared, so they must be of one size.
        prop_assert_eq!(inputs[operand].bytes(), outputs[result].bytes());
    }
    for (index, result) in results.iter().enumerate() {
        prop_assert!(result.check().is_ok());
        prop_assert!(!op.result_name(index).is_empty());
    }
    Ok(true)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 6000, ..ProptestConfig::default() })]

    #[test]
    fn infer_never_panics(op in any_op(), types in prop::collection::vec(any_type(), 0..9)) {
        exercise(&op, &types)?;
    }

    /// Starts from valid operands and breaks a few, which reaches deeper than random types do.
    #[test]
    fn infer_of_nearly_valid_operands_never_panics(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<prop::sample::Index>(), dimension()), 0..3),
        replaced in prop::option::of((any::<prop::sample::Index>(), any_type())),
        op in prop::option::weighted(0.2, any_op()),
    ) {
        let sample = &SAMPLES[which.index(SAMPLES.len())];
        let mut types = sample.types.clone();
        for (operand, axis, size) in changes {
            if types.is_empty() { break }
            let operand = operand.index(types.len());
            let mut dims = types[operand].shape.to_vec();
            let axis = axis.index(dims.len());
            dims[axis] = size;
            types[operand].shape = dims.into();
        }
        if let (Some((operand, ty)), false) = (replaced, types.is_empty()) {
            let operand = operand.index(types.len());
            types[operand] = ty;
        }
        exercise(op.as_ref().unwrap_or(&sample.op), &types)?;
    }
}

#[test]
fn all_samples_are_accepted() {
    for sample in SAMPLES.iter() {
        assert!(exercise(&sample.op, &sample.types).expect("no fault"), "{}", sample.op.name());
    }
}
