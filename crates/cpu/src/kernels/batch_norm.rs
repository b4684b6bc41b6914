//! Batch norm: `y = (x - mean) w / sqrt(variance + eps) + b`, with the statistics of each channel over all images, or with
//! given ones. Look at `channel_norm.rs` for how.

use super::channel_norm::{NormSize, Sharing, Statistics, Written, normalise, normalise_by};
use super::channel_sums::ChannelSize;
use crate::element::Element;
use crate::pool::ThreadPool;

/// What shares statistics in `[B, C, ..]`.
pub(super) fn batched(size: ChannelSize) -> NormSize {
    NormSize { size, sharing: Sharing::Batch }
}

/// Normalises x `[B, C, ..]` with w and b `[C]`; also writes mean and variance `[C]`.
pub fn batch_norm<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    operands: [&[T]; 3],
    eps: f32,
    y: &mut [T],
    [mean, variance]: [&mut [f32]; 2],
) {
    normalise(pool, batched(size), operands, eps, Written { mean, spread: variance }, y);
}

/// The same with given mean and variance `[C]`.
pub fn batch_norm_running<T: Element>(
    pool: &ThreadPool,
    size: ChannelSize,
    operands: [&[T]; 3],
    [mean, variance]: [&[f32]; 2],
    eps: f32,
    y: &mut [T],
) {
    normalise_by(pool, batched(size), operands, Statistics { mean, spread: variance, eps: Some(eps) }, y);
}
