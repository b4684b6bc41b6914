//! Gradient of batch norm's input. Look at `channel_norm.rs` for the formulas.

use super::batch_norm::batched;
use super::channel_norm::{Statistics, through_given, through_statistics};
use super::channel_sums::ChannelSize;
use crate::element::Element;
use crate::pool::ThreadPool;

/// dx from dy, x `[B, C, ..]` and w `[C]`, and the batch's mean and variance `[C]`.
pub fn batch_norm_grad<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    operands: [&[T]; 3],
    [mean, variance]: [&[f32]; 2],
    eps: f32,
    dx: &mut [T],
) {
    let statistics = Statistics { mean, spread: variance, eps: Some(eps) };
    through_statistics(pool, batched(size), operands, statistics, dx);
}

/// dx from dy and w where the variance was given.
pub fn batch_norm_running_grad<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    operands: [&[T]; 2],
    variance: &[f32],
    eps: f32,
    dx: &mut [T],
) {
    through_given(pool, batched(size), operands, (variance, eps), dx);
}
