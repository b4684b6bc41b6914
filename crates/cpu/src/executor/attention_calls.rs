//! How the kinds of attention call their kernels. Invariant: as of `dispatch`.

use super::call::Call;
use crate::element::Element;
use crate::kernels;
use crate::kernels::attention::Sight;
use crate::kernels::masked_attention::{Mask, MaskElements};
use remat_ir::ops;
use remat_plan::DeviceError;

pub(super) fn run_attention<T: Element>(call: &Call<'_>, op: &ops::Attention) {
    let kernel = kernels::attention::Attention {
        sight: Sight::Packed { segment_start: call.ints(3), window: op.window },
        softcap: op.softcap,
        dropout: call.dropout(op.dropout, op.stream, 4),
        ..attention_sizes(call, 0, [op.heads, op.kv_heads], op.scale)
    };
    run_attention_forward::<T>(call, kernel);
}

pub(super) fn run_masked_attention<T: Element>(call: &Call<'_>, op: &ops::MaskedAttention) {
    let kernel = kernels::attention::Attention {
        sight: Sight::Masked { causal: op.causal, mask: mask(call, op, 3, 0) },
        dropout: call.dropout(op.dropout, op.stream, 3 + usize::from(op.mask.is_some())),
        ..attention_sizes(call, 0, [op.heads, op.kv_heads], op.scale)
    };
    run_attention_forward::<T>(call, kernel);
}

pub(super) fn run_attention_grad<T: Element>(call: &Call<'_>, op: &ops::AttentionGrad) {
    let kernel = kernels::attention::Attention {
        sight: Sight::Packed { segment_start: call.ints(6), window: op.window },
        softcap: op.softcap,
        dropout: call.dropout(op.dropout, op.stream, 7),
        ..attention_sizes(call, 1, [op.heads, op.kv_heads], op.scale)
    };
    run_attention_backward::<T>(call, kernel);
}

pub(super) fn run_masked_attention_grad<T: Element>(call: &Call<'_>, op: &ops::MaskedAttentionGrad) {
    let kernel = kernels::attention::Attention {
        sight: Sight::Masked { causal: op.causal, mask: mask(call, &op.forward(), 6, 1) },
        dropout: call.dropout(op.dropout, op.stream, 6 + usize::from(op.mask.is_some())),
        ..attention_sizes(call, 1, [op.heads, op.kv_heads], op.scale)
    };
    run_attention_backward::<T>(call, kernel);
}

/// Attention of every key, with q at operand `q` and k behind it.
fn attention_sizes(
    call: &Call<'_>,
    q: usize,
    [heads, kv_heads]: [usize; 2],
    scale: f32,
) -> kernels::attention::Attention<'static> {
    let (shape, keys) = (call.shape(q), call.shape(q + 1)[1]);
    kernels::attention::Attention {
        batch: shape[0],
        tokens: shape[1],
        keys,
        heads,
        kv_heads,
        head_size: shape[2] / heads,
        scale,
        sight: Sight::Masked { causal: false, mask: None },
        softcap: None,
        dropout: None,
    }
}

/// The mask at operand `index`, with q at operand `q` and k behind it.
fn mask<'a>(call: &Call<'a>, op: &ops::MaskedAttention, index: usize, q: usize) -> Option<Mask<'a>> {
    let elements = match op.mask? {
        ops::AttentionMask::Boolean => MaskElements::Boolean(call.ints(index)),
        ops::AttentionMask::Additive => MaskElements::Additive(call.read(index)),
    };
    let sizes = [call.shape(q)[0], call.shape(q)[1], call.shape(q + 1)[1]];
    let strides = op.mask_strides(&call.step.reads[index].ty.shape, sizes);
    Some(Mask { elements, strides: strides.expect("`infer` has seen the mask") })
}

fn run_attention_forward<T: Element>(call: &Call<'_>, kernel: kernels::attention::Attention<'_>) {
    let (q, k, v) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
    kernels::attention::attention(call.pool, kernel, q, k, v, call.write::<T>(0), call.write(1));
}

fn run_attention_backward<T: Element>(call: &Call<'_>, op: kernels::attention::Attention<'_>) {
    let grad = kernels::attention_grad::AttentionGrad {
        op,
        dy: call.read::<T>(0),
        q: call.read::<T>(1),
        k: call.read::<T>(2),
        v: call.read::<T>(3),
        o: call.read::<T>(4),
        lse: call.read(5),
    };
    let [dq, dk, dv] = [0, 1, 2].map(|result| call.write::<T>(result));
    kernels::attention_grad::attention_grad(call.pool, grad, call.workspace(), dq, dk, dv);
}

pub(super) fn run_cached_attention<T: Element>(call: &Call<'_>, op: &ops::CachedAttention) -> Result<(), DeviceError> {
    let (shape, capacity) = (call.shape(0), call.shape(1)[1]);
    let kernel = kernels::cached_attention::CachedAttention {
        batch: shape[0],
        tokens: shape[1],
        capacity,
        heads: op.heads,
        kv_heads: op.kv_heads,
        head_size: shape[2] / op.heads,
        scale: op.scale,
        window: op.window,
        softcap: op.softcap,
        positions: call.positions(3, capacity)?,
    };
    let (q, k, v) = (call.read::<T>(0), call.read::<T>(1), call.read::<T>(2));
    kernels::cached_attention::cached_attention(call.pool, kernel, q, k, v, call.write::<T>(0));
    Ok(())
}
