//! Dropout by a counter-based generator: element i is kept if word i of the stream is at least p * 2^32, and then
//! multiplied by 1 / (1 - p). No mask is stored: forward, backward and any recomputation ask the generator again.

use remat_tensor::Philox;

use super::pointwise::CHUNK;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, launch};

/// The generator and the threshold of one dropout op.
#[derive(Debug, Clone, Copy)]
pub struct Dropout {
    philox: Philox,
    threshold: u32,
    scale: f32,
}

impl Dropout {
    /// Dropout with probability `p` in [0, 1). `rng` is the step's runtime input, `stream` the op's.
    pub fn new(p: f32, rng: [u32; 4], stream: u64) -> Self {
        assert!((0.0..1.0).contains(&p), "dropout: p = {p} is outside [0, 1)");
        let threshold = (f64::from(p) * 4_294_967_296.0) as u32;
        Dropout { philox: Philox::for_op(rng, stream), threshold, scale: 1.0 / (1.0 - p) }
    }

    /// The factor of element `index`: 0 or 1 / (1 - p).
    #[inline]
    pub fn factor(&self, index: u64) -> f32 {
        if self.philox.word(index) >= self.threshold { self.scale } else { 0.0 }
    }

    /// The factors of `4 * BLOCKS` elements from element `first` (a multiple of 4) on, in order.
    #[inline(always)]
    pub(crate) fn factors<const BLOCKS: usize>(&self, first: u64, to: &mut [f32]) {
        let words = self.philox.blocks::<BLOCKS>(first / 4);
        for (block, to) in to.as_chunks_mut::<4>().0.iter_mut().enumerate().take(BLOCKS) {
            for (word, to) in to.iter_mut().enumerate() {
                *to = if words[word][block] >= self.threshold { self.scale } else { 0.0 };
            }
        }
    }
}

/// Philox blocks computed at a time: one 512-bit vector of counters.
const BLOCKS: usize = 16;

impl Dropout {
    /// Multiplies consecutive elements, from element `first` of the stream on, by their factors; dropped ones are 0.
    #[inline(always)]
    pub(crate) fn apply(&self, first: u64, row: &mut [f32]) {
        let mut factors = [0.0; 4 * BLOCKS];
        let mut done = 0;
        while done < row.len() {
            let element = first + done as u64;
            let skipped = (element % 4) as usize;
            self.factors::<BLOCKS>(element - skipped as u64, &mut factors);
            let count = (4 * BLOCKS - skipped).min(row.len() - done);
            for (x, factor) in row[done..done + count].iter_mut().zip(&factors[skipped..]) {
                *x = if *factor == 0.0 { 0.0 } else { *x * factor };
            }
            done += count;
        }
    }
}

struct Apply<'a, T> {
    dropout: Dropout,
    /// The element of the stream that is the first of x.
    first: u64,
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T: Element> Kernel for Apply<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let end = ((task + 1) * CHUNK).min(self.x.len());
        let mut factors = [0.0; 4 * BLOCKS];
        let mut from = task * CHUNK;
        while from < end {
            let element = self.first.wrapping_add(from as u64);
            let skipped = (element % 4) as usize;
            self.dropout.factors::<BLOCKS>(element - skipped as u64, &mut factors);
            let count = (4 * BLOCKS - skipped).min(end - from);
            for (i, factor) in factors[skipped..].iter().enumerate().take(count) {
                // A dropped element is 0 even if x is not finite.
                unsafe {
                    let y = if *factor == 0.0 { 0.0 } else { (*self.x.at(from + i)).to_f32() * factor };
                    *self.y.at(from + i) = T::from_f32(y);
                }
            }
            from += count;
        }
    }
}

/// `y = x * factor(first + i)`; also the gradient, with `dy` for `x`. `y` may be `x`, in place.
pub fn dropout<'a, T: Element>(
    pool: &ThreadPool,
    dropout: Dropout,
    first: u64,
    x: impl Into<View<'a, T>>,
    y: impl Into<Out<'a, T>>,
) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "dropout: x and y differ in size");
    launch(pool, x.len().div_ceil(CHUNK), &Apply { dropout, first, x, y });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{every_level, normals};

    #[test]
    fn keeps_what_the_generator_says_at_every_level() {
        for len in [1, 63, 70, 50_001] {
            let x = normals(len, 1);
            let (rng, stream) = ([1, 2, 3, 4], 99);
            let philox = Philox::for_op(rng, stream);
            let threshold = (f64::from(0.1f32) * 4_294_967_296.0) as u32;
            every_level(
                |pool| {
                    let mut y = vec![f32::NAN; len];
                    dropout(pool, Dropout::new(0.1, rng, stream), 0, &x, &mut y);
                    let (mut part, from) = (vec![f32::NAN; len - len / 3], len / 3);
                    dropout(pool, Dropout::new(0.1, rng, stream), from as u64, &x[from..], &mut part);
                    assert_eq!(part, y[from..]);
                    vec![y]
                },
                |_, got| {
                    let scale = 1.0 / (1.0 - 0.1f32);
                    for (i, y) in got[0].iter().enumerate() {
                        let want = if philox.word(i as u64) >= threshold { x[i] * scale } else { 0.0 };
                        assert_eq!(*y, want);
                    }
                },
            );
        }
    }

    #[test]
    fn drops_about_p_of_the_elements_and_none_at_zero() {
        let x = vec![1.0f32; 40_000];
        let mut y = vec![0.0; x.len()];
        let pool = ThreadPool::new(2);
        dropout(&pool, Dropout::new(0.25, [5, 6, 7, 8], 3), 0, &x, &mut y);
        let dropped = y.iter().filter(|y| **y == 0.0).count() as f64 / x.len() as f64;
        assert!((dropped - 0.25).abs() < 0.01, "{dropped}");
        dropout(&pool, Dropout::new(0.0, [5, 6, 7, 8], 3), 0, &x, &mut y);
        assert_eq!(x, y);
    }
}
