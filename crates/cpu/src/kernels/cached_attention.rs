//! Attention of new tokens over cached keys and values, for generation: one running softmax per token and head.
//!
//! Shapes: q, o [B, T, H, E], k, v [B, S, K, E], positions [B, T], all below S. The token at position p sees the keys
//! [max(0, p - window + 1), p]. A task is one token and head; it walks its keys in tiles of `KEYS` with the recurrence of
//! `attention`. With one token at a time each key and value is read once per head: bound by memory, 4 E FLOP for 2 E
//! elements. Milakov, Gimelshein, *Online normalizer calculation for softmax*, 2018.

use super::attention::MAX_HEAD_SIZE;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::{capped, exp};

/// Keys per tile.
const KEYS: usize = 256;

/// Sizes and attributes of attention over caches.
#[derive(Debug, Clone, Copy)]
pub struct CachedAttention<'a> {
    /// B.
    pub batch: usize,
    /// T.
    pub tokens: usize,
    /// S.
    pub capacity: usize,
    /// H.
    pub heads: usize,
    /// K; divides H.
    pub kv_heads: usize,
    /// E.
    pub head_size: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// How many keys a token sees at most, itself included.
    pub window: Option<usize>,
    /// Scores stay within this.
    pub softcap: Option<f32>,
    /// `[B, T]`: the place of each token.
    pub positions: &'a [i32],
}

struct Forward<'a, T> {
    op: CachedAttention<'a>,
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    o: Out<'a, T>,
}

/// `o = softmax(scale q k^T) v` over the visible keys of the caches.
pub fn cached_attention<T: Element>(
    pool: &ThreadPool,
    op: CachedAttention<'_>,
    q: &[T],
    k: &[T],
    v: &[T],
    o: &mut [T],
) {
    let CachedAttention { batch, tokens, capacity, heads, kv_heads, head_size, positions, .. } = op;
    assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "cached_attention: {heads} heads, {kv_heads} kv heads");
    assert!((1..=MAX_HEAD_SIZE).contains(&head_size), "cached_attention: head size {head_size}");
    assert_eq!([q.len(), o.len()], [batch * tokens * heads * head_size; 2], "cached_attention: q or o");
    assert_eq!([k.len(), v.len()], [batch * capacity * kv_heads * head_size; 2], "cached_attention: k or v");
    assert_eq!(positions.len(), batch * tokens, "cached_attention: positions");
    let inside = |&position: &i32| usize::try_from(position).is_ok_and(|position| position < capacity);
    assert!(positions.iter().all(inside), "cached_attention: a position lies outside 0..{capacity}");
    launch(pool, batch * tokens * heads, &Forward { op, q, k, v, o: Out::new(o) });
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let op = &self.op;
        let (n, h, size) = (task / op.heads, task % op.heads, op.head_size);
        let end = op.positions[n] as usize + 1;
        let start = op.window.map_or(0, |window| end.saturating_sub(window));
        let (stride, kv) = (op.kv_heads * size, h / (op.heads / op.kv_heads));
        let cache = n / op.tokens * op.capacity * stride + kv * size;
        // Room for a vector behind each.
        let (sums, rest) = scratch.f32s().split_at_mut(MAX_HEAD_SIZE + 16);
        let scores = &mut rest[..KEYS + 16];
        let (mut top, mut total) = (f32::NEG_INFINITY, 0.0f32);
        sums[..size].fill(0.0);
        unsafe {
            let q = self.q.as_ptr().add(task * size);
            for first in (start..end).step_by(KEYS) {
                let count = KEYS.min(end - first);
                for j in 0..count {
                    let key = self.k.as_ptr().add(cache + (first + j) * stride);
                    let mut products = S::splat(0.0);
                    for_lanes!(S, size, |e, lanes| {
                        products = S::fma(T::load::<S>(q.add(e), lanes), T::load::<S>(key.add(e), lanes), products);
                    });
                    scores[j] = S::sum(products) * op.scale;
                }
                if let Some(cap) = op.softcap {
                    let scores = scores.as_mut_ptr();
                    for_lanes!(S, count, |j, _lanes| {
                        S::store(scores.add(j), capped::<S>(S::load(scores.add(j)), cap));
                    });
                }
                let shrink = softmax::<S>(scores, count, &mut top, &mut total);
                for e in (0..size).step_by(S::LANES) {
                    let lanes = (size - e).min(S::LANES);
                    let mut sum = S::mul(S::load_partial(sums.as_ptr().add(e), lanes), S::splat(shrink));
                    for (j, &weight) in scores[..count].iter().enumerate() {
                        let value = T::load::<S>(self.v.as_ptr().add(cache + (first + j) * stride + e), lanes);
                        sum = S::fma(S::splat(weight), value, sum);
                    }
                    S::store_partial(sums.as_mut_ptr().add(e), sum, lanes);
                }
            }
            for_lanes!(S, size, |e, lanes| {
                let sum = S::mul(S::load_partial(sums.as_ptr().add(e), lanes), S::splat(1.0 / total));
                T::store::<S>(self.o.at(task * size + e), sum, lanes);
            });
        }
    }
}

/// Turns a tile's scores into unnormalised probabilities; returns the factor of what was summed before.
#[inline(always)]
unsafe fn softmax<S: Simd>(scores: &mut [f32], count: usize, top: &mut f32, total: &mut f32) -> f32 {
    scores[count..count + S::LANES].fill(f32::NEG_INFINITY);
    unsafe {
        let mut tops = S::splat(*top);
        for_lanes!(S, count, |j, _lanes| { tops = S::max(S::load(scores.as_ptr().add(j)), tops) });
        let new = S::fold_max(tops);
        let mut sums = S::splat(0.0);
        for_lanes!(S, count, |j, _lanes| {
            let p = exp::<S>(S::sub(S::load(scores.as_ptr().add(j)), S::splat(new)));
            S::store(scores.as_mut_ptr().add(j), p);
            sums = S::add(sums, p);
        });
        // exp(-infinity) = 0 forgets the empty sum before the first tile.
        let shrink = if new == *top { 1.0 } else { (*top - new).exp() };
        *total = *total * shrink + S::sum(sums);
        *top = new;
        shrink
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Poisoned, assert_near, every_level, normals, wide};
    use remat_ir::{Array, OpDef, Type};
    use remat_tensor::DType;

    fn check(window: Option<usize>, softcap: Option<f32>, capacity: usize, head_size: usize, positions: &[i32]) {
        let (batch, heads, kv_heads, scale) = (2, 6, 2, 0.3);
        let tokens = positions.len() / batch;
        let (wide_q, wide_k) = ([batch, tokens, heads * head_size], [batch, capacity, kv_heads * head_size]);
        let q = normals(wide_q.iter().product(), 1);
        let [k, v] = [2, 3].map(|stream| normals(wide_k.iter().product(), stream));
        let array = |shape: [usize; 3], data: &[f32]| Array::new(shape, wide(data));
        let places = Array::new([batch, tokens], positions.iter().map(|&p| f64::from(p)).collect());
        let op = remat_ir::ops::CachedAttention { heads, kv_heads, scale, window, softcap };
        let like_q = Type::new(DType::F32, wide_q);
        let want = op.eval(&[&array(wide_q, &q), &array(wide_k, &k), &array(wide_k, &v), &places], &[&like_q]);
        let [q, k, v] = [q, k, v].map(|data| Poisoned::new(&data));
        every_level(
            |pool| {
                let op = CachedAttention {
                    batch,
                    tokens,
                    capacity,
                    heads,
                    kv_heads,
                    head_size,
                    scale,
                    window,
                    softcap,
                    positions,
                };
                let mut o = vec![f32::NAN; q.get().len()];
                cached_attention(pool, op, q.get(), k.get(), v.get(), &mut o);
                vec![o]
            },
            |level, got| assert_near(level, &got[0], &want[0].data, &vec![4.0; got[0].len()], 2e-6),
        );
    }

    #[test]
    fn one_token_and_many_match_the_definition() {
        check(None, None, 1, 8, &[0, 0]);
        check(None, None, 40, 17, &[3, 39]);
        check(None, None, 600, 64, &[599, 255, 256, 0, 511, 512]);
        check(Some(3), None, 40, 33, &[1, 2, 38, 39]);
        check(Some(300), None, 600, 20, &[599, 100]);
        check(None, Some(0.6), 40, 17, &[3, 39]);
        check(Some(300), Some(1.5), 600, 20, &[599, 100]);
    }
}
