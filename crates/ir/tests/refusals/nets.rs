//! Refusals of losses, attention with masks, convolution, pooling and norms of channels.

use remat_ir::Op;
use remat_ir::ops::*;

pub fn refusals() -> Vec<(Op, &'static str, &'static str)> {
    let crossed = MaskedAttention {
        heads: 2,
        kv_heads: 2,
        scale: 1.0,
        causal: false,
        mask: Some(AttentionMask::Boolean),
        dropout: 0.0,
        stream: 0,
    };
    let conv = |window, groups| Conv2d { window, groups, bias: false };
    let plain = Window::default();
    let mean = |window| Pool2d { kind: PoolKind::Mean, kernel: [2, 2], window };
    vec![
        (
            CrossEntropy { smoothing: 1.5, ..CrossEntropy::default() }.into(),
            "f32[2, 3] i32[2]",
            "attribute smoothing = 1.5 must be in [0, 1]",
        ),
        (
            CrossEntropy::default().into(),
            "f32[2, 3] i32[3]",
            "logits f32[2, 3] must have the axes of targets i32[3] and one more",
        ),
        (
            CrossEntropy { weighted: true, ..CrossEntropy::default() }.into(),
            "f32[2, 3] i32[2] f32[2]",
            "weights f32[2] must be f32[3]",
        ),
        (
            PairLoss { function: PairFunction::Huber { delta: 0.0 }, pos_weight: false }.into(),
            "f32[2] f32[2]",
            "attribute delta = 0 must be above 0",
        ),
        (
            PairLoss { function: PairFunction::Mse, pos_weight: true }.into(),
            "f32[2] f32[2] f32[2]",
            "a weight of positive answers is for bce_with_logits alone",
        ),
        (
            crossed.into(),
            "f32[2, 3, 4] f32[2, 5, 4] f32[2, 5, 4] i32[3, 5]",
            "the mask i32[3, 5] must be i32, of shape [2, 5], [2, 3, 5] or [2 or 1, 2 or 1, 3 or 1, 5]",
        ),
        (
            conv(plain, 2).into(),
            "f32[1, 3, 4, 4] f32[2, 3, 2, 2]",
            "w [2, 3, 2, 2] of 2 groups does not fit x [1, 3, 4, 4]: it is [O, C/groups, R, S] with groups dividing O and C",
        ),
        (
            conv(Window { dilation: [4, 1], ..plain }, 1).into(),
            "f32[1, 3, 4, 4] f32[2, 3, 2, 2]",
            "a window of [2, 2] reaches over 5 of 4, with padding, of [4, 4]",
        ),
        (
            conv(Window { stride: [0, 1], ..plain }, 1).into(),
            "f32[1, 3, 4, 4] f32[2, 3, 2, 2]",
            "attribute stride = [0, 1] must be at least 1",
        ),
        (
            mean(Window { padding: [2, 0], ..plain }).into(),
            "f32[1, 3, 4, 4]",
            "a padding of 2 is more than half of a window, which reaches over 2",
        ),
        (mean(Window { dilation: [1, 2], ..plain }).into(), "f32[1, 3, 4, 4]", "a window of means has no dilation"),
        (
            GroupNorm { groups: 2, eps: 1e-5 }.into(),
            "f32[2, 3, 4] f32[3] f32[3]",
            "attribute groups = 2 does not divide the channels of x f32[2, 3, 4]",
        ),
        (
            BatchNorm { eps: 1e-5, running: false }.into(),
            "f32[1, 3] f32[3] f32[3]",
            "x f32[1, 3] has one element in each channel: there is no variance to train with",
        ),
        (
            BatchNormUpdate { momentum: 2.0, count: 4 }.into(),
            "f32[3] f32[3] f32[3] f32[3]",
            "attribute momentum = 2 must be in [0, 1]",
        ),
    ]
}
