//! Rotary position embedding, Hugging Face's halves: of the first R elements of a head, i turns with i + R/2; the others stay.
//!
//! Shapes: x, y [N, H, E], positions [N], inv_freq [R/2]. The angle is `position * inv_freq` in f32, as the reference
//! implementation has it; sine and cosine are computed once per token for all heads. The inverse turns back, which is
//! also the gradient. Su et al., *RoFormer*, 2021.

use super::pointwise::rows_per_task;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// Largest supported head size; the scratch holds its angles.
pub const MAX_HEAD_SIZE: usize = 4096;

struct Rope<'a, T> {
    x: &'a [T],
    heads: usize,
    head_size: usize,
    positions: &'a [i32],
    inv_freq: &'a [f32],
    scale: f32,
    inverse: bool,
    y: Out<'a, T>,
}

impl<T: Element> Kernel for Rope<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let half = self.inv_freq.len();
        let (row, rest_of_head) = (self.heads * self.head_size, self.head_size - 2 * half);
        let rows = rows_per_task(row);
        let (cosines, rest) = scratch.f32s().split_at_mut(MAX_HEAD_SIZE / 2);
        let sines = &mut rest[..MAX_HEAD_SIZE / 2];
        for n in task * rows..((task + 1) * rows).min(self.positions.len()) {
            let position = self.positions[n] as f32;
            for (i, freq) in self.inv_freq.iter().enumerate() {
                let (sine, cosine) = (position * freq).sin_cos();
                cosines[i] = cosine * self.scale;
                sines[i] = if self.inverse { -sine * self.scale } else { sine * self.scale };
            }
            for head in 0..self.heads {
                let from = n * row + head * self.head_size;
                for_lanes!(S, half, |i, lanes| {
                    unsafe {
                        let cosine = f32::load::<S>(cosines.as_ptr().add(i), lanes);
                        let sine = f32::load::<S>(sines.as_ptr().add(i), lanes);
                        let a = T::load::<S>(self.x.as_ptr().add(from + i), lanes);
                        let b = T::load::<S>(self.x.as_ptr().add(from + half + i), lanes);
                        let first = S::sub(S::mul(a, cosine), S::mul(b, sine));
                        let second = S::add(S::mul(b, cosine), S::mul(a, sine));
                        T::store::<S>(self.y.at(from + i), first, lanes);
                        T::store::<S>(self.y.at(from + half + i), second, lanes);
                    }
                });
                let still = from + 2 * half;
                for_lanes!(S, rest_of_head, |i, lanes| {
                    unsafe {
                        T::store::<S>(self.y.at(still + i), T::load::<S>(self.x.as_ptr().add(still + i), lanes), lanes);
                    }
                });
            }
        }
    }
}

/// Turns the first elements of each head of each token, two for each frequency, by its position's angles, times `scale`;
/// `inverse` turns the other way.
pub fn rope<T: Element>(
    pool: &ThreadPool,
    [heads, size]: [usize; 2],
    x: &[T],
    positions: &[i32],
    inv_freq: &[f32],
    scale: f32,
    inverse: bool,
    y: &mut [T],
) {
    let tokens = positions.len();
    assert!(size <= MAX_HEAD_SIZE, "rope: head size {size} exceeds {MAX_HEAD_SIZE}");
    assert!(2 * inv_freq.len() <= size, "rope: {} frequencies for heads of {size}", inv_freq.len());
    assert_eq!([x.len(), y.len()], [tokens * heads * size; 2], "rope: x and y are not [{tokens}, {heads}, {size}]");
    let kernel = Rope { x, heads, head_size: size, positions, inv_freq, scale, inverse, y: Out::new(y) };
    launch(pool, tokens.div_ceil(rows_per_task(heads * size)), &kernel);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals, wide};

    #[test]
    fn turns_like_f64_and_the_inverse_turns_back() {
        for (tokens, heads, half, still) in
            [(1, 1, 1, 0), (7, 3, 5, 0), (40, 2, 32, 0), (9, 1, 33, 0), (7, 3, 5, 9), (40, 2, 8, 48)]
        {
            let size = 2 * half + still;
            let x = normals(tokens * heads * size, 1);
            let positions: Vec<i32> = (0..tokens as i32).map(|n| (n * 37) % 300).collect();
            let inv_freq: Vec<f32> = (0..half).map(|i| 10_000f32.powf(-(i as f32) / half as f32)).collect();
            let mut want = wide(&x);
            for n in 0..tokens {
                for (i, freq) in inv_freq.iter().enumerate() {
                    let (sine, cosine) = f64::from(positions[n] as f32 * freq).sin_cos();
                    for head in 0..heads {
                        let at = (n * heads + head) * size + i;
                        let (a, b) = (f64::from(x[at]), f64::from(x[at + half]));
                        want[at] = 1.5 * (a * cosine - b * sine);
                        want[at + half] = 1.5 * (b * cosine + a * sine);
                    }
                }
            }
            every_level(
                |pool| {
                    let (mut y, mut back) = (vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]);
                    rope(pool, [heads, size], &x, &positions, &inv_freq, 1.5, false, &mut y);
                    rope(pool, [heads, size], &y, &positions, &inv_freq, 1.0 / 1.5, true, &mut back);
                    vec![y, back]
                },
                |level, got| {
                    assert_near(level, &got[0], &want, &vec![5.0; want.len()], 3e-7);
                    assert_near(level, &got[1], &wide(&x), &vec![5.0; want.len()], 3e-7);
                },
            );
        }
    }
}
