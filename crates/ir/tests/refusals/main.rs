//! `infer` refuses mistakes with a message that names operand, shapes or attribute: one exact message per case; and of every
//! op a wrong number of operands. Look next at `inference.rs` for properties over random types.

mod nets;
mod numbers;
mod walks;

use remat_ir::ops::*;
use remat_ir::{Op, OpDef, Type, World};
use remat_tensor::DType;

fn ty(text: &str) -> Type {
    let (dtype, shape) = text.split_once('[').expect("a shape");
    let dims = shape.trim_end_matches(']').split(", ").filter(|d| !d.is_empty()).map(|d| d.parse().expect("a number"));
    Type::new(dtype.parse::<DType>().expect("a dtype"), dims.collect::<Vec<usize>>())
}

fn attention() -> Attention {
    Attention { heads: 4, kv_heads: 2, scale: 1.0, window: None, softcap: None, dropout: 0.0, stream: 0 }
}

fn sgd(momentum: f32, nesterov: bool) -> Sgd {
    Sgd { momentum, nesterov, weight_decay: 0.0 }
}

fn lion(beta2: f32) -> Lion {
    Lion { beta1: 0.5, beta2, weight_decay: 0.0 }
}

/// Two ranks exchange one tensor of 9 elements.
fn exchange(rank: usize, bounds: &[usize]) -> ExchangeShards {
    ExchangeShards { world: World { rank, size: 2 }, lengths: vec![9], bounds: bounds.to_vec() }
}

fn gather(bounds: &[usize]) -> GatherShards {
    let (world, lengths) = (World { rank: 0, size: 2 }, vec![9]);
    GatherShards { world, lengths, bounds: bounds.to_vec(), in_state: true }
}

fn adamw() -> AdamW {
    AdamW { beta1: 0.9, beta2: 0.999, eps: 1e-8, weight_decay: 0.0, first: 0 }
}

fn refusals() -> Vec<(Op, &'static str, &'static str)> {
    let lce = |dh, dw, accumulate| LinearCrossEntropyGrad { dh, dw, accumulate, ..LinearCrossEntropyGrad::NONE };
    vec![
        (Add.into(), "f32[2] f32[]", "operand 1 f32[] has no axes; a scalar has shape [1]"),
        (Add.into(), "f32[0] f32[0]", "operand 0 f32[0] has an axis of size 0"),
        (Add.into(), "f32[2] f32[3]", "a f32[2] and b f32[3] must have one type"),
        (Add.into(), "f32[2] bf16[2]", "a f32[2] and b bf16[2] must have one type"),
        (Add.into(), "i32[2] i32[2]", "a i32[2] must hold real numbers"),
        (Add.into(), "f32[2]", "expects 2 operands, got 1"),
        (Zeros { dtype: DType::F32, shape: vec![] }.into(), "", "result 0 f32[] has no axes; a scalar has shape [1]"),
        (Zeros { dtype: DType::U8, shape: vec![3, 0] }.into(), "", "result 0 u8[3, 0] has an axis of size 0"),
        (
            Selection { dtype: DType::F32, rows: 3, chosen: vec![1, 3] }.into(),
            "",
            "attribute chosen holds 3, and there are 3 rows",
        ),
        (
            Selection { dtype: DType::I32, rows: 3, chosen: vec![1] }.into(),
            "",
            "attribute dtype = i32 must be f32 or bf16",
        ),
        (Embedding.into(), "f32[7, 4] f32[2, 3]", "ids f32[2, 3] must be i32"),
        (Embedding.into(), "f32[7] i32[2, 3]", "table f32[7] must have 2 axes"),
        (
            EmbeddingGrad { rows: 7, accumulate: false }.into(),
            "f32[2, 3] i32[2, 3]",
            "dy f32[2, 3] must have the axes of ids i32[2, 3] and one more",
        ),
        (
            EmbeddingGrad { rows: 7, accumulate: true }.into(),
            "f32[3, 4] i32[3] f32[8, 4]",
            "the gradient f32[8, 4] must be f32[7, 4]",
        ),
        (
            EmbeddingGrad { rows: 0, accumulate: false }.into(),
            "f32[3, 4] i32[3]",
            "result 0 f32[0, 4] has an axis of size 0",
        ),
        (
            EmbeddingGrad { rows: usize::MAX, accumulate: false }.into(),
            "f32[1, 2] i32[1]",
            "result 0 f32[18446744073709551615, 2] is larger than 256 TiB",
        ),
        (
            Linear::plain(Layout::InOut).into(),
            "f32[2, 4] f32[3, 4]",
            "the last axis of x f32[2, 4] does not match w f32[3, 4], whose input size is 3",
        ),
        (
            Linear { bias: true, ..Linear::plain(Layout::OutIn) }.into(),
            "f32[2, 4] f32[3, 4] f32[4]",
            "bias f32[4] must have shape [3]",
        ),
        (
            Linear { residual: true, ..Linear::plain(Layout::OutIn) }.into(),
            "f32[2, 4] f32[3, 4] f32[2, 4]",
            "residual f32[2, 4] must be f32[2, 3]",
        ),
        (
            Linear { alpha: f32::NAN, ..Linear::plain(Layout::OutIn) }.into(),
            "f32[2, 4] f32[3, 4]",
            "attribute alpha = NaN must be a finite number",
        ),
        (
            LinearDw { layout: Layout::OutIn, alpha: 1.0, accumulate: true }.into(),
            "f32[2, 4] f32[2, 3] f32[4, 3]",
            "the gradient f32[4, 3] must be f32[3, 4]",
        ),
        (
            LinearDw { layout: Layout::OutIn, alpha: 1.0, accumulate: false }.into(),
            "f32[2, 4] f32[3, 3]",
            "x f32[2, 4] and dy f32[3, 3] must have the same rows",
        ),
        (BiasGrad { accumulate: true }.into(), "f32[2, 4] bf16[4]", "the gradient bf16[4] must be f32[4]"),
        (
            AdaptedNorm { layout: Layout::OutIn, scale: 1.0 }.into(),
            "f32[2, 4] f32[3, 2] f32[3, 5]",
            "the last axis of a f32[2, 4] does not match w f32[3, 5], whose input size is 5",
        ),
        (
            AdaptedNorm { layout: Layout::InOut, scale: 1.0 }.into(),
            "bf16[2, 4] f32[3, 2] bf16[4, 3]",
            "b f32[3, 2] must be bf16[3, 2]",
        ),
        (ColumnScale.into(), "bf16[2, 4] bf16[4] f32[4]", "w bf16[4] must be f32[4]"),
        (ColumnScaleDw { accumulate: false }.into(), "f32[2, 4] f32[2, 4] f32[3]", "norm f32[3] must be f32[4]"),
        (
            RmsNorm { eps: 1e-5, unit_offset: false }.into(),
            "f32[2, 4] f32[3]",
            "weight f32[3] does not match the last axis of x f32[2, 4]",
        ),
        (
            RmsNorm { eps: -1.0, unit_offset: false }.into(),
            "f32[2, 4] f32[4]",
            "attribute eps = -1 must not be negative",
        ),
        (
            RmsNormGrad { unit_offset: false }.into(),
            "f32[2, 4] f32[2, 4] f32[2] f32[2, 1]",
            "rstd f32[2, 1] must be f32[2, 2]",
        ),
        (
            RmsNormDw { accumulate: false }.into(),
            "f32[2, 4] f32[2, 4] f32[2, 3]",
            "rstd f32[2, 3] does not divide the last axis of x f32[2, 4]",
        ),
        (
            LayerNorm { eps: 1e-5 }.into(),
            "f32[2, 4] f32[4] f32[2]",
            "bias f32[2] does not match the last axis of x f32[2, 4]",
        ),
        (LayerNormGrad.into(), "f32[2, 4] f32[2, 4] f32[4] f32[2] f32[2, 1]", "mean f32[2] must be f32[2, 1]"),
        (
            LayerNormDw { accumulate: true }.into(),
            "f32[2, 4] f32[2, 4] f32[2, 1] f32[2, 1]",
            "expects 6 operands, got 4",
        ),
        (Cast { to: DType::I32, into: false }.into(), "f32[2]", "attribute to = i32 must be a dtype of real numbers"),
        (Cast { to: DType::BF16, into: true }.into(), "f32[2] f32[2]", "the state f32[2] must be bf16[2]"),
        (
            Rope { head_size: 3, inverse: false, scale: 1.0 }.into(),
            "f32[1, 2, 6] i32[1, 2] f32[1]",
            "attribute head_size = 3 must be even and positive",
        ),
        (
            Rope { head_size: 4, inverse: false, scale: 1.0 }.into(),
            "f32[1, 2, 6] i32[1, 2] f32[2]",
            "the last axis of x f32[1, 2, 6] is not a multiple of head_size = 4",
        ),
        (
            Rope { head_size: 2, inverse: false, scale: 1.0 }.into(),
            "f32[1, 2, 6] i32[2, 2] f32[1]",
            "positions i32[2, 2] must be i32[1, 2]",
        ),
        (
            Rope { head_size: 6, inverse: false, scale: 1.0 }.into(),
            "f32[2, 6] i32[2] f32[3]",
            "x f32[2, 6] must have 3 axes",
        ),
        (
            Rope { head_size: 6, inverse: false, scale: 1.0 }.into(),
            "f32[1, 2, 6] i32[1, 2] f32[4]",
            "inv_freq f32[4] must be f32 of one axis, at most 3 for head_size = 6",
        ),
        (
            Attention { softcap: Some(0.0), ..attention() }.into(),
            "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2]",
            "attribute softcap = 0 must be a finite number above 0",
        ),
        (Softcap { cap: f32::INFINITY }.into(), "f32[2]", "attribute softcap = inf must be a finite number above 0"),
        (SoftcapGrad { cap: 1.0 }.into(), "f32[3] f32[2]", "dy f32[3] and y f32[2] must have one type"),
        (
            Attention { kv_heads: 3, ..attention() }.into(),
            "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2]",
            "attribute kv_heads = 3 must divide heads = 4",
        ),
        (
            Attention { heads: 0, ..attention() }.into(),
            "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2]",
            "attribute kv_heads = 2 must divide heads = 0",
        ),
        (
            attention().into(),
            "f32[1, 2, 6] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2]",
            "the last axis of q f32[1, 2, 6] is not a multiple of heads = 4",
        ),
        (attention().into(), "f32[1, 2, 8] f32[1, 2, 8] f32[1, 2, 8] i32[1, 2]", "k f32[1, 2, 8] must be f32[1, 2, 4]"),
        (
            attention().into(),
            "f32[1, 2, 8] f32[1, 2, 4] bf16[1, 2, 4] i32[1, 2]",
            "k f32[1, 2, 4] and v bf16[1, 2, 4] must have one type",
        ),
        (attention().into(), "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[2]", "segment_start i32[2] must be i32[1, 2]"),
        (
            Attention { window: Some(0), ..attention() }.into(),
            "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2]",
            "attribute window = 0 must be at least 1",
        ),
        (
            Attention { dropout: 0.1, ..attention() }.into(),
            "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2]",
            "expects 5 operands, got 4",
        ),
        (
            Attention { dropout: 0.1, ..attention() }.into(),
            "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2] i32[4]",
            "rng i32[4] must be u32[4]",
        ),
        (
            Attention { dropout: 1.0, ..attention() }.into(),
            "f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] i32[1, 2] u32[4]",
            "attribute dropout = 1 must be in [0, 1)",
        ),
        (
            AttentionGrad::of(&attention()).into(),
            "f32[1, 2, 8] f32[1, 2, 8] f32[1, 2, 4] f32[1, 2, 4] f32[1, 2, 8] f32[1, 2, 4] i32[1, 2]",
            "lse f32[1, 2, 4] must be f32[1, 4, 2]",
        ),
        (Swiglu.into(), "f32[2] f32[3]", "gate f32[2] and up f32[3] must have one type"),
        (SwigluGrad.into(), "f32[3] f32[2] f32[2]", "dy f32[3] and gate f32[2] must have one type"),
        (Gelu::TANH.into(), "u8[2]", "x u8[2] must hold real numbers"),
        (GeluGrad { form: GeluForm::Tanh }.into(), "f32[3] f32[2]", "dy f32[3] and x f32[2] must have one type"),
        (Scale { factor: f32::INFINITY }.into(), "f32[2]", "attribute factor = inf must be a finite number"),
        (SliceRows { first: 2, rows: 5 }.into(), "f32[2, 3, 4]", "x f32[2, 3, 4] has no 5 rows from row 2 on"),
        (
            SliceRows { first: usize::MAX, rows: 1 }.into(),
            "f32[2, 4]",
            "x f32[2, 4] has no 1 rows from row 18446744073709551615 on",
        ),
        (SliceRows { first: 0, rows: 0 }.into(), "f32[2, 4]", "x f32[2, 4] has no 0 rows from row 0 on"),
        (WriteRows { first: 4 }.into(), "f32[2, 3, 4] f32[3, 4]", "x f32[2, 3, 4] has no 3 rows from row 4 on"),
        (WriteRows { first: 0 }.into(), "f32[2, 3, 4] bf16[3, 4]", "rows bf16[3, 4] must be f32[3, 4]"),
        (Dropout::new(1.0, 0).into(), "f32[2] u32[4]", "attribute p = 1 must be in [0, 1)"),
        (Dropout::new(f32::NAN, 0).into(), "f32[2] u32[4]", "attribute p = NaN must be in [0, 1)"),
        (
            EmbeddingNoise { alpha: f32::INFINITY, stream: 0 }.into(),
            "f32[1, 2, 3] i32[1, 2] u32[4]",
            "attribute alpha = inf must be a finite number",
        ),
        (EmbeddingNoise { alpha: 1.0, stream: 0 }.into(), "f32[2, 3] i32[2] u32[4]", "x f32[2, 3] must have 3 axes"),
        (
            EmbeddingNoise { alpha: 1.0, stream: 0 }.into(),
            "f32[1, 2, 3] i32[1, 3] u32[4]",
            "segment_start i32[1, 3] must be i32[1, 2]",
        ),
        (Dropout::new(0.5, 0).into(), "f32[2] u32[2]", "rng u32[2] must be u32[4]"),
        (
            Split { sizes: vec![1, 2], groups: 1, behind: 0 }.into(),
            "f32[2, 4]",
            "attribute sizes = [1, 2] does not add up to the last axis of x f32[2, 4]",
        ),
        (
            Split { sizes: vec![usize::MAX, 5], groups: 1, behind: 0 }.into(),
            "f32[2, 4]",
            "attribute sizes = [18446744073709551615, 5] does not add up to the last axis of x f32[2, 4]",
        ),
        (
            Split { sizes: vec![0, 4], groups: 1, behind: 0 }.into(),
            "f32[2, 4]",
            "attribute sizes = [0, 4] must be positive numbers, at least one",
        ),
        (
            Split { sizes: vec![1, 2], groups: 3, behind: 0 }.into(),
            "f32[2, 6]",
            "attribute sizes = [1, 2], 3 times, does not add up to the last axis of x f32[2, 6]",
        ),
        (
            Concat { groups: 2, behind: 0 }.into(),
            "f32[2, 4] f32[2, 3]",
            "attribute groups = 2 does not divide the last axis of operand 1 f32[2, 3]",
        ),
        (Geglu { form: GeluForm::Tanh }.into(), "f32[2] f32[3]", "gate f32[2] and up f32[3] must have one type"),
        (
            GegluGrad { form: GeluForm::Exact }.into(),
            "f32[3] f32[2] f32[2]",
            "dy f32[3] and gate f32[2] must have one type",
        ),
        (
            LinearCrossEntropy { softcap: Some(-1.0), ..LinearCrossEntropy::PLAIN }.into(),
            "f32[2, 4] f32[9, 4] i32[2]",
            "attribute softcap = -1 must be a finite number above 0",
        ),
        (Concat::WHOLE.into(), "", "expects at least 1 operand, got 0"),
        (
            Concat::WHOLE.into(),
            "f32[2, 4] f32[3, 4]",
            "operand 1 f32[3, 4] and operand 0 f32[2, 4] may differ in the last axis only",
        ),
        (
            LinearCrossEntropy::PLAIN.into(),
            "f32[2, 3, 4] f32[9, 5] i32[2, 3]",
            "the last axis of h f32[2, 3, 4] does not match the last axis of w f32[9, 5]",
        ),
        (
            LinearCrossEntropy::PLAIN.into(),
            "f32[2, 3, 4] f32[9, 4] i32[6]",
            "h f32[2, 3, 4] must have the axes of targets i32[6] and one more",
        ),
        (LinearCrossEntropy::PLAIN.into(), "f32[2, 3, 4] f32[9, 4] u32[2, 3]", "targets u32[2, 3] must be i32"),
        (
            lce(false, false, false).into(),
            "f32[3, 4] f32[9, 4] i32[3] f32[3]",
            "at least one of the attributes dh, dw and db must be true",
        ),
        (
            lce(true, false, true).into(),
            "f32[3, 4] f32[9, 4] i32[3] f32[3] f32[9, 4]",
            "attribute accumulate needs dw or db",
        ),
        (
            LinearCrossEntropyGrad { db: true, ..lce(true, true, false) }.into(),
            "f32[3, 4] f32[9, 4] i32[3] f32[3]",
            "attribute db needs bias",
        ),
        (
            LinearCrossEntropy { bias: true, ..LinearCrossEntropy::PLAIN }.into(),
            "f32[3, 4] f32[9, 4] f32[4] i32[3]",
            "bias f32[4] must be f32[9]",
        ),
        (
            LinearCrossEntropy { low_rank: true, ..LinearCrossEntropy::PLAIN }.into(),
            "f32[3, 4] f32[9, 4] f32[3, 2] f32[8, 2] i32[3]",
            "up f32[8, 2] must be f32[9, 2]",
        ),
        (
            LinearCrossEntropy { low_rank: true, ..LinearCrossEntropy::PLAIN }.into(),
            "f32[3, 4] f32[9, 4] f32[3, 5] f32[9, 2] i32[3]",
            "u f32[3, 5] must be f32[3, 2]",
        ),
        (
            LinearCrossEntropyGrad { dup: true, ..lce(true, true, false) }.into(),
            "f32[3, 4] f32[9, 4] i32[3] f32[3]",
            "attributes du and dup need low_rank",
        ),
        (lce(true, true, false).into(), "f32[3, 4] f32[9, 4] i32[3] f32[1]", "dloss f32[1] must be f32[3]"),
        (
            LinearCrossEntropyWithGrad(lce(true, true, true)).into(),
            "f32[3, 4] f32[9, 4] i32[3] f32[3] f32[4, 9]",
            "the gradient f32[4, 9] must be f32[9, 4]",
        ),
        (Sum.into(), "bf16[3]", "x bf16[3] must be f32[3]"),
        (Broadcast { shape: vec![3] }.into(), "f32[3]", "s f32[3] must be f32[1]"),
        (
            Broadcast { shape: vec![1 << 30, 1 << 30] }.into(),
            "f32[1]",
            "result 0 f32[1073741824, 1073741824] is larger than 256 TiB",
        ),
        (CacheWrite.into(), "f32[1, 9, 4] f32[1, 2, 5] i32[1, 2]", "x f32[1, 2, 5] must be f32[1, 2, 4]"),
        (CacheWrite.into(), "f32[1, 9, 4] bf16[1, 2, 4] i32[1, 2]", "x bf16[1, 2, 4] must be f32[1, 2, 4]"),
        (CacheWrite.into(), "f32[1, 9, 4] f32[1, 2, 4] i32[1, 9]", "positions i32[1, 9] must be i32[1, 2]"),
        (
            CachedAttention { heads: 4, kv_heads: 3, scale: 1.0, window: None, softcap: None }.into(),
            "f32[1, 2, 8] f32[1, 9, 6] f32[1, 9, 6] i32[1, 2]",
            "attribute kv_heads = 3 must divide heads = 4",
        ),
        (
            CachedAttention { heads: 4, kv_heads: 2, scale: 1.0, window: None, softcap: None }.into(),
            "f32[1, 2, 8] f32[1, 9, 4] f32[1, 8, 4] i32[1, 2]",
            "v f32[1, 8, 4] must be f32[1, 9, 4]",
        ),
        (
            CachedAttention { heads: 4, kv_heads: 2, scale: 1.0, window: Some(0), softcap: None }.into(),
            "f32[1, 2, 8] f32[1, 9, 4] f32[1, 9, 4] i32[1, 2]",
            "attribute window = 0 must be at least 1",
        ),
        (
            CachedAttention { heads: 4, kv_heads: 2, scale: 1.0, window: None, softcap: None }.into(),
            "f32[1, 2, 8] f32[2, 9, 4] f32[2, 9, 4] i32[1, 2]",
            "k f32[2, 9, 4] must be f32[1, 9, 4]",
        ),
        (Accumulate.into(), "bf16[3] bf16[3]", "state bf16[3] must be f32[3]"),
        (Accumulate.into(), "f32[4] f32[3]", "state f32[4] must be f32[3]"),
        (GradNorm.into(), "", "expects at least 1 operand, got 0"),
        (GradNorm.into(), "f32[3] bf16[2]", "gradient 1 bf16[2] must be f32[2]"),
        (ClipScale { max_norm: 0.0 }.into(), "f32[1]", "attribute max_norm = 0 must be a positive number"),
        (ClipScale { max_norm: 1.0 }.into(), "f32[2]", "norm f32[2] must be f32[1]"),
        (
            AdamW { beta1: 1.0, ..adamw() }.into(),
            "f32[3] f32[3] f32[3] f32[3] f32[1] i32[1] f32[1]",
            "attribute beta1 = 1 must be in [0, 1)",
        ),
        (
            AdamW { first: 2, ..adamw() }.into(),
            "f32[3] f32[2] f32[2] f32[2] f32[1] i32[1] f32[1]",
            "g f32[2] must have the shape of p f32[3], or be of its elements from 2 on",
        ),
        (exchange(2, &[0, 5, 9]).into(), "f32[3, 3] i32[1]", "attribute world: rank 2 of 2"),
        (exchange(1, &[0, 9]).into(), "f32[3, 3] i32[1]", "attributes lengths [9] and bounds [0, 9] must fit 2 ranks"),
        (exchange(1, &[0, 5, 9]).into(), "f32[8] i32[1]", "gradient 0 f32[8] must have 9 elements"),
        (exchange(1, &[0, 5, 9]).into(), "f32[9] f32[1]", "present f32[1] must be i32[1]"),
        (gather(&[0, 5, 8]).into(), "f32[9]", "attributes lengths [9] and bounds [0, 5, 8] must fit 2 ranks"),
        (
            gather(&[0, 5, 9]).into(),
            "bf16[9]",
            "tensor 0 bf16[9] must have elements of 4 bytes, of one type with the others",
        ),
        (AddParts { first: 2 }.into(), "f32[3] f32[2, 4] i32[1]", "parts f32[2, 4] have no 3 columns from 2 on"),
        (AddParts { first: 0 }.into(), "f32[3] f32[4] i32[1]", "parts f32[4] must have 2 axes"),
        (
            SquareSums { blocks: vec![0], first: 0, total: 1 }.into(),
            "f32[3]",
            "gradient 0 f32[3] cannot be cut into blocks of 0",
        ),
        (
            SquareSums { blocks: vec![2], first: 1, total: 2 }.into(),
            "f32[3]",
            "attributes first 1 and total 2 do not fit the operands",
        ),
        (NormOfSquares { tensors: vec![vec![[1, 2]]] }.into(), "i32[4]", "attribute tensors: there are 2 blocks"),
        (NormOfSquares { tensors: Vec::new() }.into(), "i32[3]", "sums i32[3] must be i32 [2 · blocks]"),
        (adamw().into(), "f32[3] f32[3] f32[2] f32[3] f32[1] i32[1] f32[1]", "m f32[2] must be f32[3]"),
        (adamw().into(), "f32[3] f32[3] f32[3] f32[3] f32[1] f32[1] f32[1]", "step f32[1] must be i32[1]"),
        (
            AdamW8bit(adamw()).into(),
            "f32[3] f32[3] f32[3] u8[3] f32[1] f32[1] f32[1] i32[1] f32[1]",
            "m f32[3] must be u8[3]",
        ),
        (
            AdamW8bit(adamw()).into(),
            "f32[257] f32[257] u8[257] u8[257] f32[2] f32[1] f32[1] i32[1] f32[1]",
            "v_absmax f32[1] must be f32[2]",
        ),
        (
            AdamW8bit(AdamW { beta2: 1.0, ..adamw() }).into(),
            "f32[3] f32[3] u8[3] u8[3] f32[1] f32[1] f32[1] i32[1] f32[1]",
            "attribute beta2 = 1 must be in [0, 1)",
        ),
        (sgd(1.0, false).into(), "f32[3] f32[3] f32[3] f32[1] f32[1]", "attribute momentum = 1 must be in [0, 1)"),
        (sgd(0.0, true).into(), "f32[3] f32[3] f32[1] f32[1]", "attribute nesterov needs a momentum above 0"),
        (sgd(0.5, true).into(), "f32[3] f32[3] f32[2] f32[1] f32[1]", "m f32[2] must be f32[3]"),
        (sgd(0.5, true).into(), "f32[3] f32[3] f32[1] f32[1]", "expects 5 operands, got 4"),
        (lion(1.0).into(), "f32[3] f32[3] f32[3] f32[1] f32[1]", "attribute beta2 = 1 must be in [0, 1)"),
        (lion(0.5).into(), "f32[3] f32[3] f32[3] f32[1] i32[1]", "grad_scale i32[1] must be f32[1]"),
        (ClipValue { max_value: 0.0 }.into(), "f32[3] f32[1]", "attribute max_value = 0 must be a positive number"),
        (ClipValue { max_value: 1.0 }.into(), "f32[3] f32[3]", "grad_scale f32[3] must be f32[1]"),
    ]
    .into_iter()
    .chain(nets::refusals())
    .collect()
}

#[test]
fn mistakes_are_told_with_operand_and_shapes() {
    for (op, types, expected) in refusals().into_iter().chain(walks::refusals()).chain(numbers::refusals()) {
        // Types are separated by the blank that does not stand inside a shape.
        let types: Vec<Type> = types.replace("] ", "]|").split('|').filter(|t| !t.is_empty()).map(ty).collect();
        let message = op.infer(&types.iter().collect::<Vec<_>>()).expect_err(expected);
        assert_eq!(message, expected, "{}", op.name());
    }
}

#[test]
fn every_op_refuses_operands_that_are_missing_or_too_many() {
    for sample in Op::samples() {
        let mut types: Vec<&Type> = sample.types.iter().collect();
        let refused = |types: &[&Type], what: &str| {
            let error = sample.op.infer(types).expect_err(&format!("{} with {what}", sample.op.name()));
            assert!(error.contains("operand"), "{}: {error}", sample.op.name());
        };
        if !types.is_empty() {
            refused(&[], "none");
        }
        if !["concat", "grad_norm"].contains(&sample.op.name()) {
            if let Some((_, fewer)) = types.split_last() {
                refused(fewer, "one less");
            }
            let more = ty("f32[3]");
            types.push(&more);
            refused(&types, "one more");
        }
    }
}
