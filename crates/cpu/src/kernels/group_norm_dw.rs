//! Gradients of group norm's parameters, channel by channel. Look at `channel_norm.rs` and `channel_sums.rs`.

use super::channel_norm::{Statistics, parameter_gradients};
use super::channel_sums::ChannelSize;
use super::group_norm::grouped;
use crate::element::Element;
use crate::pool::ThreadPool;

/// dw and db `[C]` from dy and x `[B, C, ..]`, mean and rstd `[B, groups]`, onto what they hold if `accumulate`.
pub fn group_norm_dw<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    groups: usize,
    operands: [&[T]; 2],
    [mean, rstd]: [&[f32]; 2],
    accumulate: bool,
    gradients: [&mut [f32]; 2],
) {
    let statistics = Statistics { mean, spread: rstd, eps: None };
    parameter_gradients(pool, grouped(size, groups), operands, statistics, accumulate, gradients);
}
