//! NEFTune's noise by a counter-based generator: word i of the stream gives the noise of element i. Nothing is stored.
//!
//! Shapes: x, y [B, T, D], starts [B, T]. A token's noise is scaled by alpha/√(L·D), with L the tokens of its line that have
//! its start. Bound by the generator, as dropout is.

use super::pointwise::rows_per_task;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::{Out, View};
use crate::simd::{Kernel, Simd, launch};
use remat_tensor::Philox;

/// Philox blocks computed at a time: one 512-bit vector of counters.
const BLOCKS: usize = 16;

struct Noise<'a, T> {
    philox: Philox,
    alpha: f32,
    /// Tokens of a line.
    line: usize,
    size: usize,
    starts: &'a [i32],
    x: View<'a, T>,
    y: Out<'a, T>,
}

impl<T> Noise<'_, T> {
    /// The factor of a token's noise.
    fn magnitude(&self, token: usize) -> f32 {
        let first = token / self.line * self.line;
        let line = &self.starts[first..first + self.line];
        let tokens = line.iter().filter(|start| **start == self.starts[token]).count();
        (f64::from(self.alpha) / ((tokens * self.size) as f64).sqrt()) as f32
    }
}

impl<T: Element> Kernel for Noise<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, _: &mut Scratch) {
        let rows = rows_per_task(self.size);
        for token in task * rows..((task + 1) * rows).min(self.starts.len()) {
            let magnitude = self.magnitude(token);
            let (mut from, end) = (token * self.size, (token + 1) * self.size);
            while from < end {
                let skipped = from % 4;
                let words = self.philox.blocks::<BLOCKS>((from - skipped) as u64 / 4);
                let count = (4 * BLOCKS - skipped).min(end - from);
                for i in 0..count {
                    let at = skipped + i;
                    let uniform = (words[at % 4][at / 4] >> 8) as f32 * (1.0 / 16_777_216.0);
                    unsafe {
                        let x = (*self.x.at(from + i)).to_f32();
                        *self.y.at(from + i) = T::from_f32(x + magnitude * (2.0 * uniform - 1.0));
                    }
                }
                from += count;
            }
        }
    }
}

/// `y = x + alpha/√(L·D) · u`. `y` may be `x`, in place.
pub fn embedding_noise<'a, T: Element>(
    pool: &ThreadPool,
    (alpha, rng, stream): (f32, [u32; 4], u64),
    line: usize,
    starts: &'a [i32],
    x: impl Into<View<'a, T>>,
    y: impl Into<Out<'a, T>>,
) {
    let (x, y) = (x.into(), y.into());
    assert_eq!(x.len(), y.len(), "embedding_noise: x and y differ in size");
    let size = x.len() / starts.len().max(1);
    let philox = Philox::for_op(rng, stream);
    launch(pool, starts.len().div_ceil(rows_per_task(size)), &Noise { philox, alpha, line, size, starts, x, y });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{every_level, normals};

    #[test]
    fn noise_is_the_generators_and_scaled_by_the_tokens_of_a_sequence() {
        // A line of sequences of two and one tokens, and one of three.
        let (starts, line, size) = ([0, 0, 2, 0, 0, 0], 3, 71);
        let lengths = [2, 2, 1, 3, 3, 3];
        let (x, rng, stream, alpha) = (normals(starts.len() * size, 1), [1, 2, 3, 4], 99, 5.0);
        let philox = Philox::for_op(rng, stream);
        every_level(
            |pool| {
                let mut y = vec![f32::NAN; x.len()];
                embedding_noise(pool, (alpha, rng, stream), line, &starts, &x, &mut y);
                vec![y]
            },
            |_, got| {
                for (i, y) in got[0].iter().enumerate() {
                    let magnitude = f64::from(alpha) / f64::from((lengths[i / size] * size as i32) as f32).sqrt();
                    let noise = magnitude * (2.0 * f64::from(philox.uniform(i as u64)) - 1.0);
                    assert!((f64::from(*y) - f64::from(x[i]) - noise).abs() < 1e-6, "{i}: {y}");
                    assert!(noise.abs() <= magnitude);
                }
            },
        );
    }
}
