//! Gradients of batch norm's parameters, channel by channel. Look at `channel_norm.rs` and `channel_sums.rs`.

use super::batch_norm::batched;
use super::channel_norm::{Statistics, parameter_gradients};
use super::channel_sums::ChannelSize;
use crate::element::Element;
use crate::pool::ThreadPool;

/// dw and db `[C]` from dy and x `[B, C, ..]`, mean and variance `[C]`, onto what they hold if `accumulate`.
pub fn batch_norm_dw<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    operands: [&[T]; 2],
    [mean, variance]: [&[f32]; 2],
    eps: f32,
    accumulate: bool,
    gradients: [&mut [f32]; 2],
) {
    let statistics = Statistics { mean, spread: variance, eps: Some(eps) };
    parameter_gradients(pool, batched(size), operands, statistics, accumulate, gradients);
}
