//! Attention with grouped heads, tile by tile with a running softmax: no T x S tensor.
//!
//! Shapes: q, o [B, T, H, E], k, v [B, S, K, E], lse [B, H, T]. Which keys a query sees, `Sight` says: those of its document
//! up to its own, in a window perhaps, or all that a mask leaves; without any, o = 0 and lse = -infinity. With a cap, a score
//! s becomes cap tanh(s / cap) before anything else. A task owns the queries of one
//! tile for up to eight heads of one kv head, stacked as rows, and walks the key tiles in ascending order:
//! m' = max(m, row max), p = exp(s - m'), l' = l exp(m - m') + sum p, o' = o exp(m - m') + p v.
//! Key tiles lie at multiples of `KEYS`; skipping one that a row does not see changes no bit of that row, since its
//! p would be 0 and its m unchanged. Of bf16 operands, p is rounded to bf16 for its product with v where the level has
//! the dot product; its sum l is not. Work 4 E FLOP per visible pair and head. Dao, *FlashAttention-2*, 2023; Milakov,
//! Gimelshein, *Online normalizer calculation for softmax*, 2018.

use std::ops::Range;

use crate::rules::RULES;
use remat_plan::AttentionShares;

use super::dropout::Dropout;
use super::gemm::form::Form;
use super::gemm::pack::Source;
use super::gemm::tile::Update;
use super::gemm::{K_BLOCK, ROW_STRIDE};
use super::masked_attention::Mask;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::{capped, exp};

/// Largest supported head size.
pub const MAX_HEAD_SIZE: usize = K_BLOCK;
/// Keys per tile: enough to make up for the end of each row's softmax.
const KEYS: usize = 128;
/// Rows per tile: queries times heads, or keys. A power of two, as lengths often are: a tile of a few rows left over
/// packs as many keys as a full one.
pub(super) const ROWS: usize = 128;
/// Heads of one kv head that are stacked in a tile.
const STACKED_HEADS: usize = 8;

/// Sizes and attributes of attention.
#[derive(Debug, Clone, Copy)]
pub struct Attention<'a> {
    /// B.
    pub batch: usize,
    /// T.
    pub tokens: usize,
    /// S.
    pub keys: usize,
    /// H.
    pub heads: usize,
    /// K; divides H.
    pub kv_heads: usize,
    /// E.
    pub head_size: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Which keys a query sees.
    pub sight: Sight<'a>,
    /// Scores stay within this.
    pub softcap: Option<f32>,
    /// Drops probabilities; element ((b H + h) T + i) S + j.
    pub dropout: Option<Dropout>,
}

/// Which keys a query sees.
#[derive(Debug, Clone, Copy)]
pub enum Sight<'a> {
    /// As many keys as queries: token i sees [max(segment_start[i], i - window + 1), i].
    Packed {
        /// `[B, T]`: the first key in the token's row that it may see.
        segment_start: &'a [i32],
        /// How many keys a token sees at most, itself included.
        window: Option<usize>,
    },
    /// Every key, but for what is hidden.
    Masked {
        /// Whether query i sees no key behind the i-th.
        causal: bool,
        /// What else is hidden or weighed.
        mask: Option<Mask<'a>>,
    },
}

impl Sight<'_> {
    fn check(&self, name: &str, [batch, heads, tokens, keys]: [usize; 4]) {
        match self {
            Sight::Packed { segment_start, .. } => {
                assert_eq!(segment_start.len(), batch * tokens, "{name}: segment_start is not [{batch}, {tokens}]");
                assert_eq!(tokens, keys, "{name}: as many keys as queries are packed");
            }
            Sight::Masked { mask, .. } => {
                let last = |mask: &Mask<'_>| mask.row((batch.max(1) - 1, heads - 1, tokens.max(1) - 1)) + keys;
                assert!(mask.is_none_or(|mask| last(&mask) <= mask.len()), "{name}: the mask is too short");
            }
        }
    }
}

impl Attention<'_> {
    /// Query heads per kv head.
    pub(super) fn group(&self) -> usize {
        self.heads / self.kv_heads
    }

    /// How the gradient is cut into tasks, and the workspace that it needs.
    pub fn shares(&self) -> AttentionShares {
        RULES.shares(self.batch, [self.tokens, self.keys], self.heads, self.kv_heads, self.head_size)
    }

    /// The keys that token `i` of row `b` sees, but for those that a mask hides.
    #[inline(always)]
    pub(super) fn visible(&self, b: usize, i: usize) -> Range<usize> {
        match self.sight {
            Sight::Packed { segment_start, window } => {
                let start = usize::try_from(segment_start[b * self.tokens + i]).unwrap_or(0).min(i + 1);
                start.max(window.map_or(0, |window| (i + 1).saturating_sub(window)))..i + 1
            }
            Sight::Masked { causal: true, .. } => 0..self.keys.min(i + 1),
            Sight::Masked { causal: false, .. } => 0..self.keys,
        }
    }

    /// Whether no query sees a key behind its own place.
    #[inline(always)]
    pub(super) fn is_causal(&self) -> bool {
        match self.sight {
            Sight::Packed { .. } => true,
            Sight::Masked { causal, .. } => causal,
        }
    }

    /// The mask, if there is one.
    #[inline(always)]
    pub(super) fn mask(&self) -> Option<Mask<'_>> {
        match self.sight {
            Sight::Packed { .. } => None,
            Sight::Masked { mask, .. } => mask,
        }
    }

    /// Index of token `i`, head `h` in q, o and their gradients.
    #[inline(always)]
    pub(super) fn query(&self, b: usize, i: usize, h: usize) -> usize {
        ((b * self.tokens + i) * self.heads + h) * self.head_size
    }

    /// Index of token `j`, kv head `kv` in k, v and their gradients.
    #[inline(always)]
    pub(super) fn key(&self, b: usize, j: usize, kv: usize) -> usize {
        ((b * self.keys + j) * self.kv_heads + kv) * self.head_size
    }

    /// Index of token `i`, head `h` in lse.
    #[inline(always)]
    pub(super) fn statistic(&self, b: usize, h: usize, i: usize) -> usize {
        (b * self.heads + h) * self.tokens + i
    }

    /// Rows (token `i` on) of head `h` of a tensor like q.
    #[inline(always)]
    pub(super) unsafe fn queries<T>(&self, q: &[T], b: usize, i: usize, h: usize) -> Source<T> {
        let start = unsafe { q.as_ptr().add(self.query(b, i, h)) };
        Source { start, row_stride: self.heads * self.head_size, col_stride: 1 }
    }

    /// Rows (token `j` on) of kv head `kv` of a tensor like k.
    #[inline(always)]
    pub(super) unsafe fn keys<T>(&self, k: &[T], b: usize, j: usize, kv: usize) -> Source<T> {
        let start = unsafe { k.as_ptr().add(self.key(b, j, kv)) };
        Source { start, row_stride: self.kv_heads * self.head_size, col_stride: 1 }
    }

    pub(super) fn check(&self, name: &str, like_q: &[usize], like_k: &[usize], lse: usize) {
        let Attention { batch, tokens, keys, heads, kv_heads, head_size, .. } = *self;
        assert!(kv_heads > 0 && heads.is_multiple_of(kv_heads), "{name}: {heads} heads, {kv_heads} kv heads");
        assert!((1..=MAX_HEAD_SIZE).contains(&head_size), "{name}: head size {head_size} exceeds {MAX_HEAD_SIZE}");
        let (q, k) = (batch * tokens * heads * head_size, batch * keys * kv_heads * head_size);
        assert!(like_q.iter().all(|&len| len == q), "{name}: not [{batch}, {tokens}, {heads}, {head_size}]");
        assert!(like_k.iter().all(|&len| len == k), "{name}: not [{batch}, {keys}, {kv_heads}, {head_size}]");
        assert_eq!(lse, batch * heads * tokens, "{name}: lse is not [{batch}, {heads}, {tokens}]");
        self.sight.check(name, [batch, heads, tokens, keys]);
    }
}

/// The queries of one task: `heads` heads from `head` on, `count` tokens from `first` on; row r is head r / count.
#[derive(Clone, Copy)]
pub(super) struct QueryTile {
    pub b: usize,
    pub kv: usize,
    pub head: usize,
    pub heads: usize,
    pub first: usize,
    pub count: usize,
}

/// Rows of a tile of scores and how many of its keys, at most, any of them sees.
pub(super) struct Band {
    pub rows: Range<usize>,
    pub keys: usize,
}

impl QueryTile {
    fn stacked(op: &Attention<'_>) -> usize {
        op.group().min(STACKED_HEADS)
    }

    fn tokens(op: &Attention<'_>) -> usize {
        ROWS / Self::stacked(op)
    }

    pub(super) fn tasks(op: &Attention<'_>) -> usize {
        let per_row = op.group().div_ceil(Self::stacked(op)) * op.tokens.div_ceil(Self::tokens(op));
        op.batch * op.kv_heads * per_row
    }

    /// The tile of a task; late tiles, which see the most keys, come first, so that threads end together.
    pub(super) fn of(op: &Attention<'_>, task: usize) -> QueryTile {
        let (tiles, stacks) = (op.tokens.div_ceil(Self::tokens(op)), op.group().div_ceil(Self::stacked(op)));
        let (tile, rest) = (tiles - 1 - task % tiles, task / tiles);
        let (stack, rest) = (rest % stacks, rest / stacks);
        let (kv, b) = (rest % op.kv_heads, rest / op.kv_heads);
        let (head, first) = (stack * Self::stacked(op), tile * Self::tokens(op));
        let heads = Self::stacked(op).min(op.group() - head);
        let count = Self::tokens(op).min(op.tokens - first);
        QueryTile { b, kv, head: kv * op.group() + head, heads, first, count }
    }

    pub(super) fn rows(&self) -> usize {
        self.heads * self.count
    }

    /// Token and head of a row.
    #[inline(always)]
    pub(super) fn token_head(&self, row: usize) -> (usize, usize) {
        (self.first + row % self.count, self.head + row / self.count)
    }

    /// The tiles of `keys` keys that some query of the tile sees: first key and count of each.
    pub(super) fn key_tiles(&self, op: &Attention<'_>, keys: usize) -> impl Iterator<Item = (usize, usize)> {
        let seen = (self.first..self.first + self.count).map(|i| op.visible(self.b, i));
        let (start, end) = seen.fold((usize::MAX, 0), |(start, end), seen| (start.min(seen.start), end.max(seen.end)));
        (start / keys * keys..end).step_by(keys).map(move |j| (j, keys.min(end - j)))
    }

    /// The tile's rows, few at a time, so that their scores stay in the first-level cache, and how many of the `count`
    /// keys from `j` on they see.
    #[inline(always)]
    pub(super) fn bands<S: Simd>(&self, op: &Attention<'_>, j: usize, count: usize) -> impl Iterator<Item = Band> {
        let rows = self.rows();
        (0..rows).step_by(S::TILE_ROWS).map(move |first| {
            let rows = first..rows.min(first + S::TILE_ROWS);
            let end = rows.clone().map(|row| op.visible(self.b, self.token_head(row).0).end).max();
            Band { rows, keys: end.map_or(0, |end| end.saturating_sub(j).min(count)) }
        })
    }

    /// Packs the tile's rows of a tensor like q.
    #[inline(always)]
    pub(super) unsafe fn pack<S: Simd, T: Element>(&self, form: Form, op: &Attention<'_>, q: &[T], to: *mut f32) {
        for h in 0..self.heads {
            unsafe {
                let from = op.queries(q, self.b, self.first, self.head + h);
                form.pack_rows::<S, T>(from, self.count, op.head_size, to.add(h * self.count * ROW_STRIDE));
            }
        }
    }
}

/// The part of a row's visible keys that lies in the key tile from `j` on, relative to it.
#[inline(always)]
pub(super) fn clip(visible: Range<usize>, j: usize, count: usize) -> Range<usize> {
    let start = visible.start.saturating_sub(j).min(count);
    start..visible.end.saturating_sub(j).min(count).max(start)
}

struct Forward<'a, T> {
    op: Attention<'a>,
    form: Form,
    q: &'a [T],
    k: &'a [T],
    v: &'a [T],
    o: Out<'a, T>,
    lse: Out<'a, f32>,
}

/// `o = dropout(softmax(scale q k^T)) v` over the visible keys, and the logarithm of each softmax's denominator.
pub fn attention<T: Element>(
    pool: &ThreadPool,
    op: Attention<'_>,
    q: &[T],
    k: &[T],
    v: &[T],
    o: &mut [T],
    lse: &mut [f32],
) {
    op.check("attention", &[q.len(), o.len()], &[k.len(), v.len()], lse.len());
    let form = Form::of::<T, T>(pool.level());
    launch(pool, QueryTile::tasks(&op), &Forward { op, form, q, k, v, o: Out::new(o), lse: Out::new(lse) });
}

impl<T: Element> Kernel for Forward<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let (op, form) = (&self.op, self.form);
        let tile = QueryTile::of(op, task);
        let (rows, size) = (tile.rows(), op.head_size);
        let (queries, rest) = scratch.f32s().split_at_mut(ROWS * ROW_STRIDE);
        let (scores, rest) = rest.split_at_mut(ROWS * ROW_STRIDE);
        let (sums, rest) = rest.split_at_mut(ROWS * ROW_STRIDE);
        let (keys, rest) = rest.split_at_mut(KEYS * (MAX_HEAD_SIZE + 32));
        let (keys, values) = (keys.as_mut_ptr(), rest[..KEYS * (MAX_HEAD_SIZE + 32)].as_mut_ptr());
        let (mut top, mut total) = ([f32::NEG_INFINITY; ROWS], [0.0f32; ROWS]);
        sums.fill(0.0);
        unsafe {
            tile.pack::<S, T>(form, op, self.q, queries.as_mut_ptr());
            for (j, count) in tile.key_tiles(op, KEYS) {
                let (k, v) = (op.keys(self.k, tile.b, j, tile.kv), op.keys(self.v, tile.b, j, tile.kv));
                form.pack_panels::<S, T>(k.transposed(), size, count, keys);
                form.pack_panels::<S, T>(v, count, size, values);
                for band in tile.bands::<S>(op, j, count) {
                    let (at, height) = (band.rows.start * ROW_STRIDE, band.rows.len());
                    let to = Update::plain(scores.as_mut_ptr().add(at), ROW_STRIDE, op.scale, false);
                    let panels = form.panels(keys, size);
                    form.multiply::<S>(queries.as_ptr().add(at), height, panels, band.keys, size, to);
                    for row in band.rows {
                        let (i, h) = tile.token_head(row);
                        let scores = scores.as_mut_ptr().add(row * ROW_STRIDE);
                        let seen = clip(op.visible(tile.b, i), j, count);
                        if let Some(cap) = op.softcap {
                            cap_row::<S>(scores.add(seen.start), seen.len(), cap);
                        }
                        if let Some(mask) = op.mask() {
                            let to = std::slice::from_raw_parts_mut(scores.add(seen.start), seen.len());
                            mask.add_to((tile.b, h, i), j + seen.start, to);
                        }
                        let shrink = softmax_row::<S>(scores, &seen, count, &mut top[row], &mut total[row]);
                        if shrink != 1.0 {
                            scale_row::<S>(sums.as_mut_ptr().add(row * ROW_STRIDE), size, shrink);
                        }
                        if let Some(dropout) = op.dropout {
                            let element = op.statistic(tile.b, h, i) * op.keys + j + seen.start;
                            let kept = std::slice::from_raw_parts_mut(scores.add(seen.start), seen.len());
                            dropout.apply(element as u64, kept);
                        }
                        form.narrow_row(scores, 0, count);
                    }
                    let to = Update::plain(sums.as_mut_ptr().add(at), ROW_STRIDE, 1.0, true);
                    let panels = form.panels(values, count);
                    form.multiply::<S>(scores.as_ptr().add(at), height, panels, size, band.keys, to);
                }
            }
            for row in 0..rows {
                let (i, h) = tile.token_head(row);
                let inverse = if total[row] == 0.0 { 0.0 } else { 1.0 / total[row] };
                let (sums, o) = (sums.as_ptr().add(row * ROW_STRIDE), op.query(tile.b, i, h));
                for_lanes!(S, size, |e, lanes| {
                    T::store::<S>(self.o.at(o + e), S::mul(S::load(sums.add(e)), S::splat(inverse)), lanes);
                });
                *self.lse.at(op.statistic(tile.b, h, i)) = top[row] + total[row].ln();
            }
        }
    }
}

/// Caps the scores of one row's visible keys. The row has room for a vector behind them.
#[inline(always)]
unsafe fn cap_row<S: Simd>(row: *mut f32, len: usize, cap: f32) {
    unsafe {
        for_lanes!(S, len, |j, _lanes| { S::store(row.add(j), capped::<S>(S::load(row.add(j)), cap)) });
    }
}

/// Turns the scores of one row's visible keys into unnormalised probabilities, 0 for the others; returns the factor of
/// what was summed before. The row has room for a vector behind `count`.
#[inline(always)]
unsafe fn softmax_row<S: Simd>(
    row: *mut f32,
    seen: &Range<usize>,
    count: usize,
    top: &mut f32,
    total: &mut f32,
) -> f32 {
    unsafe {
        row.write_bytes(0, if seen.is_empty() { count } else { seen.start });
        if seen.is_empty() {
            return 1.0;
        }
        S::store(row.add(seen.end), S::splat(f32::NEG_INFINITY));
        let (first, len) = (row.add(seen.start), seen.len());
        let mut tops = S::splat(*top);
        for_lanes!(S, len, |j, _lanes| { tops = S::max(S::load(first.add(j)), tops) });
        let new = S::fold_max(tops);
        if new == f32::NEG_INFINITY {
            // All that there was so far is hidden by a mask.
            row.write_bytes(0, count);
            return 1.0;
        }
        let mut sums = S::splat(0.0);
        for_lanes!(S, len, |j, _lanes| {
            let p = exp::<S>(S::sub(S::load(first.add(j)), S::splat(new)));
            S::store(first.add(j), p);
            sums = S::add(sums, p);
        });
        for j in seen.end..count {
            *row.add(j) = 0.0;
        }
        // exp(-infinity) = 0 forgets the empty sum before the first tile; an unchanged top gives exactly 1.
        let shrink = if new == *top { 1.0 } else { (*top - new).exp() };
        *total = *total * shrink + S::sum(sums);
        *top = new;
        shrink
    }
}

#[inline(always)]
unsafe fn scale_row<S: Simd>(row: *mut f32, len: usize, factor: f32) {
    unsafe {
        for_lanes!(S, len, |e, _lanes| { S::store(row.add(e), S::mul(S::load(row.add(e)), S::splat(factor))) });
    }
}

#[cfg(test)]
#[path = "attention/tests.rs"]
mod tests;
