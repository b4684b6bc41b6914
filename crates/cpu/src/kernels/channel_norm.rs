//! Norms of tensors with channels, `[B, C, ..]`: what is normalised together is a group of channels of one image, or one
//! channel of all images.
//!
//! Invariant: a task owns whole sets of what shares statistics; their sums are those of `channel_sums`: in vectors along
//! each channel of each image, then in f64. The variance is summed from the centred elements. Bound by memory.

use super::channel_sums::{ChannelSize, ChannelTerm, channel_sums};
use super::padded::keep;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// What shares its statistics.
#[derive(Debug, Clone, Copy)]
pub enum Sharing {
    /// So many groups of channels, image by image.
    Groups(usize),
    /// A channel of all images.
    Batch,
}

/// The sizes of a tensor and what of it shares statistics.
#[derive(Debug, Clone, Copy)]
pub struct NormSize {
    /// B, C and places.
    pub size: ChannelSize,
    /// What shares its statistics.
    pub sharing: Sharing,
}

impl NormSize {
    /// How many statistics there are.
    pub(super) fn sets(&self) -> usize {
        match self.sharing {
            Sharing::Groups(groups) => self.size.batch * groups,
            Sharing::Batch => self.size.channels,
        }
    }

    /// Which statistics a channel of an image has.
    #[inline(always)]
    fn set(&self, image: usize, channel: usize) -> usize {
        match self.sharing {
            Sharing::Groups(groups) => image * groups + channel / (self.size.channels / groups),
            Sharing::Batch => channel,
        }
    }

    /// Image and channel of each run of a set.
    #[inline(always)]
    fn runs(&self, set: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        let ChannelSize { batch, channels, .. } = self.size;
        let (count, groups) = match self.sharing {
            Sharing::Groups(groups) => (channels / groups, Some(groups)),
            Sharing::Batch => (batch, None),
        };
        (0..count).map(move |run| match groups {
            Some(groups) => (set / groups, set % groups * count + run),
            None => (run, set),
        })
    }

    /// Elements of a set.
    fn elements(&self) -> usize {
        self.size.batch * self.size.channels * self.size.places / self.sets()
    }

    fn check(&self, name: &str, tensors: &[usize], by_channel: &[usize], by_set: &[usize]) {
        let ChannelSize { batch, channels, places } = self.size;
        let len = batch * channels * places;
        assert!(tensors.iter().all(|&given| given == len), "{name}: not [{batch}, {channels}, {places}]");
        assert!(by_channel.iter().all(|&given| given == channels), "{name}: a parameter is not [{channels}]");
        let sets = self.sets();
        assert!(by_set.iter().all(|&given| given == sets), "{name}: a statistic is not [{sets}]");
    }
}

/// Means, and what else is known of how far elements lie from them.
#[derive(Debug, Clone, Copy)]
pub struct Statistics<'a> {
    /// One for each set.
    pub mean: &'a [f32],
    /// One for each set: 1/deviation, or the variance where there is an epsilon.
    pub spread: &'a [f32],
    /// Added to variances.
    pub eps: Option<f32>,
}

impl Statistics<'_> {
    #[inline(always)]
    fn of(&self, set: usize) -> (f32, f32) {
        (self.mean[set], rstd_of(self.spread[set], self.eps))
    }
}

/// 1/deviation of a variance and its epsilon, or as it is.
#[inline(always)]
fn rstd_of(spread: f32, eps: Option<f32>) -> f32 {
    eps.map_or(spread, |eps| 1.0 / (spread + eps).sqrt())
}

/// Sums two terms over the runs of a set.
#[inline(always)]
unsafe fn sums<S: Simd>(
    size: &NormSize,
    set: usize,
    terms: impl Fn(usize, usize, usize, usize) -> (S::V, S::V),
) -> [f64; 2] {
    let mut totals = [0.0; 2];
    for (image, channel) in size.runs(set) {
        unsafe {
            let (mut first, mut second) = (S::splat(0.0), S::splat(0.0));
            for_lanes!(S, size.size.places, |place, lanes| {
                let (a, b) = terms(image, channel, place, lanes);
                (first, second) = (S::add(first, a), S::add(second, b));
            });
            totals[0] += f64::from(S::sum(first));
            totals[1] += f64::from(S::sum(second));
        }
    }
    totals
}

/// What a forward pass writes of its statistics.
pub struct Written<'a> {
    /// One for each set.
    pub mean: &'a mut [f32],
    /// The same: 1/deviation, or, for a batch, the variance.
    pub spread: &'a mut [f32],
}

struct Forward<'a, T> {
    size: NormSize,
    x: &'a [T],
    weight: &'a [T],
    bias: &'a [T],
    eps: f32,
    given: Option<Statistics<'a>>,
    mean: Out<'a, f32>,
    spread: Out<'a, f32>,
    y: Out<'a, T>,
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, set: usize, _: &mut Scratch) {
        let (mean, rstd) = match self.given {
            Some(given) => given.of(set),
            None => unsafe { self.measured::<S>(set) },
        };
        for (image, channel) in self.size.runs(set) {
            let from = self.size.size.at(image, channel);
            let (weight, bias) = (self.weight[channel].to_f32(), self.bias[channel].to_f32());
            for_lanes!(S, self.size.size.places, |place, lanes| {
                unsafe {
                    let x = T::load::<S>(self.x.as_ptr().add(from + place), lanes);
                    let normal = S::mul(S::sub(x, S::splat(mean)), S::splat(rstd));
                    T::store::<S>(self.y.at(from + place), S::fma(normal, S::splat(weight), S::splat(bias)), lanes);
                }
            });
        }
    }
}

impl<T: Element> Forward<'_, T> {
    /// Mean and 1/deviation of a set, which are written, too.
    #[inline(always)]
    unsafe fn measured<S: Simd>(&self, set: usize) -> (f32, f32) {
        let count = self.size.elements() as f64;
        let load = |image: usize, channel: usize, place: usize, lanes: usize| unsafe {
            T::load::<S>(self.x.as_ptr().add(self.size.size.at(image, channel) + place), lanes)
        };
        unsafe {
            let zero = S::splat(0.0);
            let [sum, _] = sums::<S>(&self.size, set, |b, c, place, lanes| (load(b, c, place, lanes), zero));
            let mean = (sum / count) as f32;
            let [squares, _] = sums::<S>(&self.size, set, |b, c, place, lanes| {
                let centred = S::sub(load(b, c, place, lanes), S::splat(mean));
                (keep::<S>(S::mul(centred, centred), lanes), zero)
            });
            let variance = (squares / count) as f32;
            let rstd = rstd_of(variance, Some(self.eps));
            *self.mean.at(set) = mean;
            *self.spread.at(set) = match self.size.sharing {
                Sharing::Groups(_) => rstd,
                Sharing::Batch => variance,
            };
            (mean, rstd)
        }
    }
}

/// `y = (x - mean) rstd w + b` with statistics of its own, which are written.
pub(super) fn normalise<T: Element>(
    pool: &ThreadPool,
    size: NormSize,
    [x, weight, bias]: [&[T]; 3],
    eps: f32,
    written: Written<'_>,
    y: &mut [T],
) {
    let Written { mean, spread } = written;
    let by_set = [mean.len(), spread.len()];
    size.check("norm", &[x.len(), y.len()], &[weight.len(), bias.len()], &by_set);
    let (mean, spread, y) = (Out::new(mean), Out::new(spread), Out::new(y));
    launch(pool, size.sets(), &Forward { size, x, weight, bias, eps, given: None, mean, spread, y });
}

/// The same with statistics that are given.
pub(super) fn normalise_by<T: Element>(
    pool: &ThreadPool,
    size: NormSize,
    [x, weight, bias]: [&[T]; 3],
    given: Statistics<'_>,
    y: &mut [T],
) {
    let by_set = [given.mean.len(), given.spread.len()];
    size.check("norm", &[x.len(), y.len()], &[weight.len(), bias.len()], &by_set);
    let (mut no_mean, mut no_spread) = ([], []);
    let (mean, spread, y) = (Out::new(&mut no_mean), Out::new(&mut no_spread), Out::new(y));
    launch(pool, size.sets(), &Forward { size, x, weight, bias, eps: 0.0, given: Some(given), mean, spread, y });
}

struct Backward<'a, T> {
    size: NormSize,
    dy: &'a [T],
    x: &'a [T],
    weight: &'a [T],
    statistics: Statistics<'a>,
    dx: Out<'a, T>,
}

/// Of g = dy w and h = (x - mean) rstd: `dx = rstd (g - mean(g) - h mean(g h))`, with means over a set.
pub(super) fn through_statistics<T: Element>(
    pool: &ThreadPool,
    size: NormSize,
    [dy, x, weight]: [&[T]; 3],
    statistics: Statistics<'_>,
    dx: &mut [T],
) {
    let by_set = [statistics.mean.len(), statistics.spread.len()];
    size.check("norm gradient", &[dy.len(), x.len(), dx.len()], &[weight.len()], &by_set);
    launch(pool, size.sets(), &Backward { size, dy, x, weight, statistics, dx: Out::new(dx) });
}

impl<T: Element> Kernel for Backward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, set: usize, _: &mut Scratch) {
        let (mean, rstd) = self.statistics.of(set);
        // dy w and the normalised x at one place; both zero behind a run, since dy is.
        let terms = |image: usize, channel: usize, place: usize, lanes: usize| unsafe {
            let at = self.size.size.at(image, channel) + place;
            let g = S::mul(T::load::<S>(self.dy.as_ptr().add(at), lanes), S::splat(self.weight[channel].to_f32()));
            let centred = S::sub(T::load::<S>(self.x.as_ptr().add(at), lanes), S::splat(mean));
            (g, S::mul(centred, S::splat(rstd)))
        };
        unsafe {
            let totals = sums::<S>(&self.size, set, |image, channel, place, lanes| {
                let (g, normal) = terms(image, channel, place, lanes);
                (g, S::mul(g, normal))
            });
            let [mean_g, along] = totals.map(|total| S::splat((total / self.size.elements() as f64) as f32));
            for (image, channel) in self.size.runs(set) {
                let from = self.size.size.at(image, channel);
                for_lanes!(S, self.size.size.places, |place, lanes| {
                    let (g, normal) = terms(image, channel, place, lanes);
                    let inner = S::sub(S::sub(g, mean_g), S::mul(normal, along));
                    T::store::<S>(self.dx.at(from + place), S::mul(inner, S::splat(rstd)), lanes);
                });
            }
        }
    }
}

struct Scaled<'a, T> {
    size: NormSize,
    dy: &'a [T],
    weight: &'a [T],
    variance: &'a [f32],
    eps: f32,
    dx: Out<'a, T>,
}

/// `dx = dy w rstd`, where the statistics were given.
pub(super) fn through_given<T: Element>(
    pool: &ThreadPool,
    size: NormSize,
    [dy, weight]: [&[T]; 2],
    (variance, eps): (&[f32], f32),
    dx: &mut [T],
) {
    size.check("norm gradient", &[dy.len(), dx.len()], &[weight.len()], &[variance.len()]);
    launch(pool, size.sets(), &Scaled { size, dy, weight, variance, eps, dx: Out::new(dx) });
}

impl<T: Element> Kernel for Scaled<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, set: usize, _: &mut Scratch) {
        let rstd = rstd_of(self.variance[set], Some(self.eps));
        for (image, channel) in self.size.runs(set) {
            let from = self.size.size.at(image, channel);
            for_lanes!(S, self.size.size.places, |place, lanes| {
                unsafe {
                    let dy = T::load::<S>(self.dy.as_ptr().add(from + place), lanes);
                    let g = S::mul(dy, S::splat(self.weight[channel].to_f32()));
                    T::store::<S>(self.dx.at(from + place), S::mul(g, S::splat(rstd)), lanes);
                }
            });
        }
    }
}

/// dy, or dy times the normalised x.
struct Slopes<'a, T> {
    size: NormSize,
    dy: &'a [T],
    normal: Option<(&'a [T], Statistics<'a>)>,
}

impl<T: Element> ChannelTerm for Slopes<'_, T> {
    #[inline(always)]
    unsafe fn at<S: Simd>(&self, image: usize, channel: usize, place: usize, lanes: usize) -> S::V {
        let at = self.size.size.at(image, channel) + place;
        unsafe {
            let dy = T::load::<S>(self.dy.as_ptr().add(at), lanes);
            let Some((x, statistics)) = self.normal else { return dy };
            let (mean, rstd) = statistics.of(self.size.set(image, channel));
            let centred = S::sub(T::load::<S>(x.as_ptr().add(at), lanes), S::splat(mean));
            S::mul(dy, S::mul(centred, S::splat(rstd)))
        }
    }
}

/// dw = sum of dy (x - mean) rstd and db = sum of dy, onto what they hold if `accumulate`.
pub(super) fn parameter_gradients<T: Element>(
    pool: &ThreadPool,
    size: NormSize,
    [dy, x]: [&[T]; 2],
    statistics: Statistics<'_>,
    accumulate: bool,
    [dw, db]: [&mut [f32]; 2],
) {
    let by_set = [statistics.mean.len(), statistics.spread.len()];
    size.check("norm parameters", &[dy.len(), x.len()], &[dw.len(), db.len()], &by_set);
    channel_sums(pool, size.size, &Slopes { size, dy, normal: Some((x, statistics)) }, accumulate, dw);
    channel_sums(pool, size.size, &Slopes { size, dy, normal: None }, accumulate, db);
}
