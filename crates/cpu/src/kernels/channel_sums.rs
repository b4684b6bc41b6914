//! Sums over images and places, channel by channel: the gradients of biases and of norms' parameters, and means.
//!
//! Invariant: of each image and channel the terms are added in vectors, in order; the images' sums are added in order in
//! f64, and rounded once onto the result. A task owns channels, so that threads change no bit.

use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// The sizes of a tensor `[B, C, ..]`, all axes behind the channels in one.
#[derive(Debug, Clone, Copy)]
pub struct ChannelSize {
    /// B.
    pub batch: usize,
    /// C.
    pub channels: usize,
    /// Elements of one channel of one image.
    pub places: usize,
}

impl ChannelSize {
    /// Index of the first element of a channel of an image.
    #[inline(always)]
    pub(super) fn at(&self, image: usize, channel: usize) -> usize {
        (image * self.channels + channel) * self.places
    }

    /// The sum of a term over all that a channel has.
    ///
    /// # Safety
    /// As of [`ChannelTerm::at`]; the channel exists.
    #[inline(always)]
    pub(super) unsafe fn sum<S: Simd, T: ChannelTerm>(&self, term: &T, channel: usize) -> f64 {
        let mut total = 0.0;
        for image in 0..self.batch {
            unsafe {
                let mut sums = S::splat(0.0);
                for_lanes!(S, self.places, |place, lanes| {
                    sums = S::add(sums, term.at::<S>(image, channel, place, lanes));
                });
                total += f64::from(S::sum(sums));
            }
        }
        total
    }
}

/// What is summed.
pub(crate) trait ChannelTerm: Sync {
    /// The terms of places `place..place + lanes` of a channel of an image; zero in the other lanes.
    ///
    /// # Safety
    /// The machine runs level `S`; the elements exist.
    unsafe fn at<S: Simd>(&self, image: usize, channel: usize, place: usize, lanes: usize) -> S::V;
}

/// Channels per task, so that a task is not too small.
const CHANNELS: usize = 4;

struct Sums<'a, T> {
    size: ChannelSize,
    term: &'a T,
    accumulate: bool,
    out: Out<'a, f32>,
}

impl<T: ChannelTerm> Kernel for Sums<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        for channel in task * CHANNELS..((task + 1) * CHANNELS).min(self.size.channels) {
            unsafe {
                let start = if self.accumulate { f64::from(*self.out.at(channel)) } else { 0.0 };
                *self.out.at(channel) = (start + self.size.sum::<S, T>(self.term, channel)) as f32;
            }
        }
    }
}

/// Sums a term over images and places, onto what `out` `[C]` holds if `accumulate`.
pub(crate) fn channel_sums<T: ChannelTerm>(
    pool: &ThreadPool,
    size: ChannelSize,
    term: &T,
    accumulate: bool,
    out: &mut [f32],
) {
    assert_eq!(out.len(), size.channels, "channel sums: out is not [{}]", size.channels);
    launch(pool, size.channels.div_ceil(CHANNELS), &Sums { size, term, accumulate, out: Out::new(out) });
}
