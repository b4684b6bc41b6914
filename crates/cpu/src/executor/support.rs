//! Which dtypes this executor has kernels for: f32 and bf16 activations, everything else as the op's `infer` demands.
//!
//! Invariant: `dispatch` runs only what `supports` admitted, at load. Look next at `dispatch`.

use super::operand::Operand;
use crate::kernels::{self as kernels, attention::MAX_HEAD_SIZE};
use remat_ir::{Op, OpDef, Type};
use remat_tensor::DType;

/// Whether this executor has kernels for an op on these operands.
pub(super) fn supports(op: &Op, reads: &[Operand], writes: &[Operand]) -> Result<(), String> {
    if matches!(op, Op::Zeros(_)) && writes[0].ty.dtype == DType::U8 {
        return Err("zeros has no kernel for u8 here; use i32".to_string());
    }
    let (heads, q) = if let Op::Attention(op) = op {
        (op.heads, reads.first())
    } else if let Op::AttentionGrad(op) = op {
        (op.heads, reads.get(1))
    } else if let Op::MaskedAttention(op) = op {
        (op.heads, reads.first())
    } else if let Op::MaskedAttentionGrad(op) = op {
        (op.heads, reads.get(1))
    } else if let Op::CachedAttention(op) = op {
        (op.heads, reads.first())
    } else {
        (1, None)
    };
    if let Some(head_size) = q.map(|q| q.ty.shape.last() / heads).filter(|&size| size > MAX_HEAD_SIZE) {
        return Err(format!("{} has kernels for head sizes up to {MAX_HEAD_SIZE}, not {head_size}", op.name()));
    }
    let widest = kernels::pool2d_grad::MAX_WIDTH;
    if matches!(op, Op::Pool2dGrad(pool) if pool.size[1] > widest) {
        return Err(format!("pool2d_grad has kernels for rows of up to {widest} elements"));
    }
    let known = |dtype: DType| matches!(dtype, DType::F32 | DType::BF16);
    let unknown = |operand: &&Operand| operand.ty.dtype.is_float() && !known(operand.ty.dtype);
    if let Some(operand) = reads.iter().chain(writes).find(unknown) {
        return Err(format!("{} has no kernel for {} here; use f32 or bf16", op.name(), operand.ty.dtype));
    }
    let mut activations = reads[op.activations(reads.len())].iter().map(|operand| &operand.ty);
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
        let forward =
            ops::Attention { heads: 2, kv_heads: 1, scale: 1.0, window: None, softcap: None, dropout: 0.0, stream: 0 };
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
