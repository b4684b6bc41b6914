//! Gradient of group norm's input. Look at `channel_norm.rs` for the formula.

use super::channel_norm::{Statistics, through_statistics};
use super::channel_sums::ChannelSize;
use super::group_norm::grouped;
use crate::element::Element;
use crate::pool::ThreadPool;

/// dx from dy, x `[B, C, ..]` and w `[C]`, and mean and rstd `[B, groups]`.
pub fn group_norm_grad<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    groups: usize,
    operands: [&[T]; 3],
    [mean, rstd]: [&[f32]; 2],
    dx: &mut [T],
) {
    through_statistics(pool, grouped(size, groups), operands, Statistics { mean, spread: rstd, eps: None }, dx);
}
