//! Group norm: `y = (x - mean) rstd w + b`, with the statistics of a group of channels of an image. Look at
//! `channel_norm.rs` for how.

use super::channel_norm::{NormSize, Sharing, Written, normalise};
use super::channel_sums::ChannelSize;
use crate::element::Element;
use crate::pool::ThreadPool;

/// What shares statistics in `[B, C, ..]` with so many groups of channels.
pub(super) fn grouped(size: ChannelSize, groups: usize) -> NormSize {
    NormSize { size, sharing: Sharing::Groups(groups) }
}

/// Normalises x `[B, C, ..]` with w and b `[C]`; also writes mean and rstd `[B, groups]`.
pub fn group_norm<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    groups: usize,
    operands: [&[T]; 3],
    eps: f32,
    y: &mut [T],
    [mean, rstd]: [&mut [f32]; 2],
) {
    normalise(pool, grouped(size, groups), operands, eps, Written { mean, spread: rstd }, y);
}
