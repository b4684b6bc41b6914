//! Which dtypes this executor has kernels for: f32 and bf16 activations, everything else as the op's `infer` demands.
//!
//! Invariant: `dispatch` runs only what `supports` admitted, at load. Look next at `dispatch`.

use super::resolve::Operand;
use crate::kernels::attention::MAX_HEAD_SIZE;
use remat_ir::{Op, Type};
use remat_tensor::DType;
use std::ops::Range;

/// The operands that are activations, weights or cotangents: all of one dtype, after which the kernel is chosen. The
/// others have the dtype that the op's `infer` demands.
pub(super) fn activations(op: &Op, operands: usize) -> Range<usize> {
    match op {
        // Dtypes of a custom op are its definition's affair.
        Op::Zeros(_) | Op::Custom(_) => 0..0,
        Op::Embedding(_) | Op::EmbeddingGrad(_) | Op::BiasGrad(_) | Op::Rope(_) => 0..1,
        Op::Gelu(_) | Op::Scale(_) | Op::Cast(_) | Op::Dropout(_) | Op::Split(_) | Op::SliceRows(_) => 0..1,
        Op::LinearDw(_) | Op::RmsNorm(_) | Op::RmsNormDw(_) | Op::LayerNormDw(_) => 0..2,
        Op::Swiglu(_) | Op::GeluGrad(_) | Op::Add(_) | Op::WriteRows(_) => 0..2,
        Op::LinearCrossEntropy(_) | Op::LinearCrossEntropyGrad(_) | Op::LinearCrossEntropyWithGrad(_) => 0..2,
        Op::RmsNormGrad(_) | Op::LayerNorm(_) | Op::LayerNormGrad(_) | Op::SwigluGrad(_) => 0..3,
        Op::Attention(_) | Op::CachedAttention(_) => 0..3,
        Op::CacheWrite(_) => 0..2,
        Op::AttentionGrad(_) => 0..5,
        Op::Linear(_) | Op::Concat(_) => 0..operands,
        Op::Accumulate(_) => 1..2,
        // Here `infer` demands f32 alone.
        Op::Sum(_) | Op::Broadcast(_) | Op::GradNorm(_) | Op::ClipScale(_) | Op::AdamW(_) | Op::AdamW8bit(_) => 0..1,
    }
}

/// Whether this executor has kernels for an op on these operands.
pub(super) fn supports(op: &Op, reads: &[Operand], writes: &[Operand]) -> Result<(), String> {
    if matches!(op, Op::Zeros(_)) && writes[0].ty.dtype == DType::U8 {
        return Err("zeros has no kernel for u8 here; use i32".to_string());
    }
    let (heads, q) = if let Op::Attention(op) = op {
        (op.heads, reads.first())
    } else if let Op::AttentionGrad(op) = op {
        (op.heads, reads.get(1))
    } else if let Op::CachedAttention(op) = op {
        (op.heads, reads.first())
    } else {
        (1, None)
    };
    if let Some(head_size) = q.map(|q| q.ty.shape.last() / heads).filter(|&size| size > MAX_HEAD_SIZE) {
        return Err(format!("{} has kernels for head sizes up to {MAX_HEAD_SIZE}, not {head_size}", op.name()));
    }
    let known = |dtype: DType| matches!(dtype, DType::F32 | DType::BF16);
    let unknown = |operand: &&Operand| operand.ty.dtype.is_float() && !known(operand.ty.dtype);
    if let Some(operand) = reads.iter().chain(writes).find(unknown) {
        return Err(format!("{} has no kernel for {} here; use f32 or bf16", op.name(), operand.ty.dtype));
    }
    let mut activations = reads[activations(op, reads.len())].iter().map(|operand| &operand.ty);
    let first = activations.next();
    // A quantised weight is read in the dtype of the others.
    let other = |ty: &&Type| ty.dtype.quant_format().is_none() && first.is_some_and(|first| first.dtype != ty.dtype);
    match first.zip(activations.find(other)) {
        Some((one, other)) => Err(format!("{} has no kernel for {one} with {other} here; cast one of them", op.name())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use remat_ir::ops;

    #[test]
    fn attention_beyond_the_largest_head_size_is_refused_at_load() {
        let forward = ops::Attention { heads: 2, kv_heads: 1, scale: 1.0, window: None, dropout: 0.0, stream: 0 };
        let backward = Op::from(ops::AttentionGrad::of(&forward));
        for (op, q) in [(Op::from(forward), 0), (backward, 1)] {
            let operand = |width| Operand { start: std::ptr::null_mut(), ty: Type::new(DType::F32, [1, 4, width]) };
            let reads = |width| (0..6).map(|index| operand(if index == q { width } else { 8 })).collect::<Vec<_>>();
            assert_eq!(supports(&op, &reads(2 * MAX_HEAD_SIZE), &[]), Ok(()));
            let refused = supports(&op, &reads(2 * MAX_HEAD_SIZE + 2), &[]).unwrap_err();
            assert!(refused.contains("up to 256, not 257"), "{refused}");
        }
    }
}
