//! Gradients of attention, tile by tile, from q, k, v, o and the softmax statistic alone.
//!
//! With s = scale q k^T, p = exp(c(s) - lse), the dropout factors z and D = sum over e of dy o: ds = c'(s) p (z dy v^T - D),
//! where c caps scores and c' = 1 without a cap,
//! dq = scale ds k, dk = scale ds^T q, dv = (p z)^T dy. One pass, five products: a task owns some query heads of one kv
//! head, walks the key tiles upwards and under each the query tiles that see it; dq, dk and dv are f32 sums in workspace,
//! whose order is fixed, so that threads change no bit. Tiles have keys as rows and queries as columns; above the
//! diagonal nothing is multiplied. Of bf16 operands, p z and ds are rounded to bf16 for their products where the level has
//! the dot product. Work 10 E FLOP per visible pair and head. Dao, *FlashAttention-2*, 2023.
//! Look next at `attention.rs` for shapes and tiles.

use std::ops::Range;

use remat_plan::AttentionShares;

use super::attention::{Attention, MAX_HEAD_SIZE, ROWS};
use super::gemm::ROW_STRIDE;
use super::gemm::form::Form;
use super::gemm::pack::Panels;
use super::gemm::tile::Update;
use super::masked_attention_grad::mask_tile;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::{capped, capped_slope, exp};

/// Queries of a tile; as many as keys, so that tiles on the diagonal are square.
const COLUMNS: usize = ROWS;
/// Tiles of scratch that a task works in.
const TILES: usize = 6;

/// What backward reads.
#[derive(Clone, Copy)]
pub struct AttentionGrad<'a, T> {
    /// The forward's sizes and attributes.
    pub op: Attention<'a>,
    /// `[B, T, H, E]`: the cotangent of o.
    pub dy: &'a [T],
    /// `[B, T, H, E]`.
    pub q: &'a [T],
    /// `[B, S, K, E]`.
    pub k: &'a [T],
    /// `[B, S, K, E]`.
    pub v: &'a [T],
    /// `[B, T, H, E]`: the forward's result.
    pub o: &'a [T],
    /// `[B, H, T]`: the forward's statistic.
    pub lse: &'a [f32],
}

/// Writes dq, dk and dv; the workspace is as long as `AttentionShares` says.
pub fn attention_grad<T: Element>(
    pool: &ThreadPool,
    grad: AttentionGrad<'_, T>,
    workspace: &mut [f32],
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
) {
    let (op, like_q) = (grad.op, [grad.dy.len(), grad.q.len(), grad.o.len(), dq.len()]);
    op.check("attention_grad", &like_q, &[grad.k.len(), grad.v.len(), dk.len(), dv.len()], grad.lse.len());
    let shares = op.shares();
    assert!(workspace.len() >= shares.workspace_len(), "attention_grad: workspace is too small");
    let form = Form::of::<T, T>(pool.level());
    let (dq, dk, dv) = (Out::new(dq), Out::new(dk), Out::new(dv));
    let kernel = Shares { grad, form, shares, workspace: Out::new(workspace), dq, dk, dv };
    launch(pool, shares.tasks(), &kernel);
    if shares.parts > 1 {
        launch(pool, op.batch * op.kv_heads * op.keys.div_ceil(ROWS), &Sums(kernel));
    }
}

struct Shares<'a, T> {
    grad: AttentionGrad<'a, T>,
    form: Form,
    shares: AttentionShares,
    workspace: Out<'a, f32>,
    dq: Out<'a, T>,
    dk: Out<'a, T>,
    dv: Out<'a, T>,
}

/// A task's part of the workspace: sums `[T, E]` and `[S, E]`, and one value per query of the head at hand.
#[derive(Clone, Copy)]
struct Room {
    dq: *mut f32,
    dk: *mut f32,
    dv: *mut f32,
    delta: *mut f32,
}

/// One query head of one kv head.
#[derive(Clone, Copy)]
struct Head {
    b: usize,
    kv: usize,
    h: usize,
}

/// Scratch: packed rows of k and v; scores that become p z, dy v^T that becomes ds, its transpose (a mask until then), and z.
#[derive(Clone, Copy)]
struct Tiles {
    k: *mut f32,
    v: *mut f32,
    p: *mut f32,
    ds: *mut f32,
    across: *mut f32,
    kept: *mut f32,
    /// Panels of the keys at hand, then those of query tiles, as many as there is room for.
    panels: *mut f32,
    /// Words of one panel operand, and how many query tiles there is room for.
    stride: usize,
    room: usize,
}

impl Tiles {
    fn of(form: Form, size: usize, scratch: &mut Scratch) -> Tiles {
        let (tiles, rest) = scratch.f32s().split_at_mut(TILES * ROWS * ROW_STRIDE);
        let stride = form.words(COLUMNS) * size.next_multiple_of(32);
        let room = (rest.len() / stride).saturating_sub(1) / 4;
        assert!(size <= MAX_HEAD_SIZE && room > 0, "attention_grad: scratch is too small");
        let start = tiles.as_mut_ptr();
        let [k, v, p, ds, across, kept] = std::array::from_fn(|tile| start.wrapping_add(tile * ROWS * ROW_STRIDE));
        Tiles { k, v, p, ds, across, kept, panels: rest.as_mut_ptr(), stride, room }
    }

    /// Panels of the tile of queries number `tile`: q and dy transposed, q, dy.
    fn queries(&self, tile: usize) -> [*mut f32; 4] {
        std::array::from_fn(|operand| self.panels.wrapping_add((1 + 4 * (tile % self.room) + operand) * self.stride))
    }
}

impl<T: Element> Kernel for Shares<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let op = &self.grad.op;
        let (part, kv) = (task % self.shares.parts, task / self.shares.parts % op.kv_heads);
        let b = task / self.shares.parts / op.kv_heads;
        let heads = op.group() / self.shares.parts;
        let first = kv * op.group() + part * heads;
        let (room, len) = (self.room(task), op.keys * op.head_size);
        let tiles = Tiles::of(self.form, op.head_size, scratch);
        unsafe {
            room.dk.write_bytes(0, len);
            room.dv.write_bytes(0, len);
            for h in first..first + heads {
                self.head::<S>(Head { b, kv, h }, room, &tiles);
            }
            if self.shares.parts == 1 {
                for j in 0..op.keys {
                    store_row::<S, T>(room.dk.add(j * op.head_size), op.head_size, &self.dk, op.key(b, j, kv));
                    store_row::<S, T>(room.dv.add(j * op.head_size), op.head_size, &self.dv, op.key(b, j, kv));
                }
            }
        }
    }
}

impl<T: Element> Shares<'_, T> {
    fn room(&self, task: usize) -> Room {
        let Attention { tokens, keys, head_size, .. } = self.grad.op;
        let dq = self.workspace.at(task * self.shares.task_len());
        let dk = dq.wrapping_add(tokens * head_size);
        let dv = dk.wrapping_add(keys * head_size);
        let delta = dv.wrapping_add(keys * head_size);
        Room { dq, dk, dv, delta }
    }

    /// dq of one query head, and its part of dk and dv.
    #[inline(always)]
    unsafe fn head<S: Simd>(&self, head: Head, room: Room, tiles: &Tiles) {
        let (grad, op, form) = (&self.grad, &self.grad.op, self.form);
        let (size, Head { b, kv, h }) = (op.head_size, head);
        let keep = op.tokens.div_ceil(COLUMNS) <= tiles.room;
        unsafe {
            room.dq.write_bytes(0, op.tokens * size);
            for i in 0..op.tokens {
                *room.delta.add(i) = self.delta::<S>(b, i, h);
            }
            for i in (0..if keep { op.tokens } else { 0 }).step_by(COLUMNS) {
                self.pack_queries::<S>(head, i, tiles);
            }
            for j in (0..op.keys).step_by(ROWS) {
                let rows = ROWS.min(op.keys - j);
                let keys = op.keys(grad.k, b, j, kv);
                form.pack_rows::<S, T>(keys, rows, size, tiles.k);
                form.pack_rows::<S, T>(op.keys(grad.v, b, j, kv), rows, size, tiles.v);
                form.pack_panels::<S, T>(keys, rows, size, tiles.panels);
                let first = if op.is_causal() { j } else { 0 };
                for i in (first..op.tokens).step_by(COLUMNS) {
                    let pair = Pair { i, count: COLUMNS.min(op.tokens - i), j, rows };
                    let Some(columns) = self.columns(head, pair, room.delta) else { continue };
                    if !keep {
                        self.pack_queries::<S>(head, i, tiles);
                    }
                    self.pair::<S>(head, pair, &columns, room, tiles);
                }
            }
            for i in 0..op.tokens {
                store_row::<S, T>(room.dq.add(i * size), size, &self.dq, op.query(b, i, h));
            }
        }
    }

    /// D of one query.
    #[inline(always)]
    unsafe fn delta<S: Simd>(&self, b: usize, i: usize, h: usize) -> f32 {
        let from = self.grad.op.query(b, i, h);
        let mut sums = unsafe { S::splat(0.0) };
        for_lanes!(S, self.grad.op.head_size, |e, lanes| {
            unsafe {
                let dy = T::load::<S>(self.grad.dy.as_ptr().add(from + e), lanes);
                sums = S::fma(dy, T::load::<S>(self.grad.o.as_ptr().add(from + e), lanes), sums);
            }
        });
        unsafe { S::sum(sums) }
    }

    /// Packs the tile of queries from `i` on for the four products that read it.
    #[inline(always)]
    unsafe fn pack_queries<S: Simd>(&self, Head { b, h, .. }: Head, i: usize, tiles: &Tiles) {
        let (grad, op, form) = (&self.grad, &self.grad.op, self.form);
        let (size, count) = (op.head_size, COLUMNS.min(op.tokens - i));
        let to = tiles.queries(i / COLUMNS);
        unsafe {
            for (of, [across, down]) in [(grad.q, [to[0], to[2]]), (grad.dy, [to[1], to[3]])] {
                let from = op.queries(of, b, i, h);
                form.pack_panels::<S, T>(from.transposed(), size, count, across);
                form.pack_panels::<S, T>(from, count, size, down);
            }
        }
    }

    /// Adds what one tile of keys and one tile of queries give to dq, dk and dv.
    #[inline(always)]
    unsafe fn pair<S: Simd>(&self, head: Head, pair: Pair, columns: &Columns, room: Room, tiles: &Tiles) {
        let (op, form) = (&self.grad.op, self.form);
        let (size, Pair { i, count, j, rows }) = (op.head_size, pair);
        let [q_across, dy_across, q, dy] = tiles.queries(i / COLUMNS);
        let on_diagonal = op.is_causal() && i == j;
        unsafe {
            if op.dropout.is_some() {
                self.factors(head, pair, tiles.kept);
            }
            if let Some(mask) = op.mask() {
                mask_tile(&mask, (head.b, head.h), [i, count], [j, rows], tiles.across);
            }
            // Few rows at a time, so that what one product makes and the next one reads stays in the first-level cache.
            for first in (0..rows).step_by(S::TILE_ROWS) {
                let height = S::TILE_ROWS.min(rows - first);
                // The first query, in whole panels, that sees a key of the band.
                let from = if on_diagonal { first / (2 * S::LANES) * (2 * S::LANES) } else { 0 };
                if from >= count {
                    // There are more keys than queries, and none sees these or those behind them.
                    break;
                }
                let (at, width) = (first * ROW_STRIDE, count - from);
                let behind = |panels: *mut f32| form.panels(panels.add(from * form.words(size)), size);
                let to = |tile: *mut f32, scale| Update::plain(tile.add(at + from), ROW_STRIDE, scale, false);
                form.multiply::<S>(tiles.k.add(at), height, behind(q_across), width, size, to(tiles.p, op.scale));
                form.multiply::<S>(tiles.v.add(at), height, behind(dy_across), width, size, to(tiles.ds, 1.0));
                for row in first..first + height {
                    let of = [tiles.p, tiles.ds, tiles.kept, tiles.across].map(|tile| tile.add(row * ROW_STRIDE));
                    self.score_grads::<S>(columns, (j + row) as f32, from..count, of);
                    let [p, ds, ..] = of;
                    form.narrow_row(p, from, count);
                    form.narrow_row(ds, from, count);
                }
                let below = |panels: *mut f32| form.below::<S>(form.panels(panels, count), from);
                let to = |sums: *mut f32, scale| Update::plain(sums.add((j + first) * size), size, scale, true);
                let at = at + form.words(from);
                form.multiply::<S>(tiles.p.add(at), height, below(dy), size, width, to(room.dv, 1.0));
                form.multiply::<S>(tiles.ds.add(at), height, below(q), size, width, to(room.dk, op.scale));
            }
            form.pack_transposed::<S>(tiles.ds, rows, count, tiles.across);
            let keys: Panels = form.panels(tiles.panels, rows);
            for band in bands::<S>(count, on_diagonal) {
                let seen = if on_diagonal { band.end.min(rows) } else { rows };
                let to = Update::plain(room.dq.add((i + band.start) * size), size, op.scale, true);
                form.multiply::<S>(tiles.across.add(band.start * ROW_STRIDE), band.len(), keys, size, seen, to);
            }
        }
    }

    /// What is needed of each query of a tile; `None` if none of them sees any of the keys.
    #[inline(always)]
    unsafe fn columns(&self, Head { b, h, .. }: Head, pair: Pair, delta: *const f32) -> Option<Columns> {
        let op = &self.grad.op;
        let Pair { i, count, j, rows } = pair;
        // Queries that do not exist see no key: their first key lies behind every other.
        let (none, zero) = ([f32::INFINITY; COLUMNS], [0.0; COLUMNS]);
        let mut columns =
            Columns { first_key: none, last_key: zero, lse: zero, delta: zero, masked: op.is_causal() && i == j };
        let mut some = false;
        for column in 0..count {
            let visible = op.visible(b, i + column);
            some |= visible.start < j + rows && j < visible.end;
            columns.masked |= visible.start > j;
            // Numbers of keys are exact in f32 up to 2^24.
            columns.first_key[column] = visible.start as f32;
            columns.last_key[column] = visible.end as f32 - 1.0;
        }
        if !some {
            return None;
        }
        let statistic = op.statistic(b, h, i);
        columns.lse[..count].copy_from_slice(&self.grad.lse[statistic..statistic + count]);
        if op.mask().is_some() {
            // Where all is hidden, a score less this stays -infinity, whose exponential is 0.
            let nothing = columns.lse.iter_mut().filter(|lse| **lse == f32::NEG_INFINITY);
            nothing.for_each(|lse| *lse = f32::INFINITY);
        }
        // SAFETY: one value for each token.
        columns.delta[..count].copy_from_slice(unsafe { std::slice::from_raw_parts(delta.add(i), count) });
        Some(columns)
    }

    /// The dropout factors of a tile, keys as rows; made query by query, since the generator runs along the keys.
    #[inline(always)]
    unsafe fn factors(&self, Head { b, h, .. }: Head, pair: Pair, to: *mut f32) {
        let op = &self.grad.op;
        let Pair { i, count, j, rows } = pair;
        let Some(dropout) = op.dropout else { return };
        let mut line = [0.0; ROWS];
        for column in 0..count {
            line.fill(1.0);
            dropout.apply((op.statistic(b, h, i + column) * op.keys + j) as u64, &mut line[..rows]);
            for (row, factor) in line.iter().enumerate().take(rows) {
                unsafe { *to.add(row * ROW_STRIDE + column) = *factor };
            }
        }
    }

    /// Replaces one key's scores by p z and its dy v^T by ds, 0 where the query does not see the key.
    #[inline(always)]
    unsafe fn score_grads<S: Simd>(
        &self,
        columns: &Columns,
        key: f32,
        of: Range<usize>,
        [p, ds, kept, mask]: [*mut f32; 4],
    ) {
        unsafe {
            let (key, zero) = (S::splat(key), S::splat(0.0));
            for column in of.step_by(S::LANES) {
                let load = |of: &[f32; COLUMNS]| S::load(of.as_ptr().add(column));
                // A score that the query does not see may be anything; below it is masked.
                let mut score = S::load(p.add(column));
                if let Some(cap) = self.grad.op.softcap {
                    score = capped::<S>(score, cap);
                }
                if self.grad.op.mask().is_some() {
                    score = S::add(score, S::load(mask.add(column)));
                }
                let bounded = S::min(S::splat(88.0), S::sub(score, load(&columns.lse)));
                let probability = exp::<S>(bounded);
                let mut factored = probability;
                let mut dp = S::load(ds.add(column));
                if self.grad.op.dropout.is_some() {
                    let z = S::load(kept.add(column));
                    factored = S::mul(probability, z);
                    dp = S::mul(dp, z);
                }
                let mut slope = S::mul(probability, S::sub(dp, load(&columns.delta)));
                if let Some(cap) = self.grad.op.softcap {
                    slope = S::mul(slope, capped_slope::<S>(score, cap));
                }
                if columns.masked {
                    let seen = |v: S::V| {
                        let after_start = S::select_ge(key, load(&columns.first_key), v, zero);
                        S::select_ge(load(&columns.last_key), key, after_start, zero)
                    };
                    (factored, slope) = (seen(factored), seen(slope));
                }
                S::store(p.add(column), factored);
                S::store(ds.add(column), slope);
            }
        }
    }
}

/// `count` queries from `i` on and `rows` keys from `j` on.
#[derive(Clone, Copy)]
struct Pair {
    i: usize,
    count: usize,
    j: usize,
    rows: usize,
}

/// What the score gradients need of each query of a tile, one lane per query.
struct Columns {
    first_key: [f32; COLUMNS],
    last_key: [f32; COLUMNS],
    lse: [f32; COLUMNS],
    delta: [f32; COLUMNS],
    /// Whether some query does not see some key.
    masked: bool,
}

/// Rows of a tile to multiply at a time: on the diagonal as few as a register tile has, since each sees another length.
#[inline(always)]
fn bands<S: Simd>(rows: usize, on_diagonal: bool) -> impl Iterator<Item = Range<usize>> {
    let step = if on_diagonal { S::TILE_ROWS } else { rows };
    (0..rows).step_by(step).map(move |first| first..rows.min(first + step))
}

#[inline(always)]
unsafe fn store_row<S: Simd, T: Element>(from: *const f32, len: usize, to: &Out<'_, T>, at: usize) {
    for_lanes!(S, len, |e, lanes| {
        unsafe { T::store::<S>(to.at(at + e), f32::load::<S>(from.add(e), lanes), lanes) }
    });
}

/// Adds up dk and dv of the parts of each kv head, in ascending order of their heads.
struct Sums<'a, T>(Shares<'a, T>);

impl<T: Element> Kernel for Sums<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let Sums(of) = self;
        let (op, parts) = (&of.grad.op, of.shares.parts);
        let blocks = op.keys.div_ceil(ROWS);
        let (j, kv, b) = (task % blocks * ROWS, task / blocks % op.kv_heads, task / blocks / op.kv_heads);
        let (size, sums) = (op.head_size, scratch.f32s().as_mut_ptr());
        let first = of.room((b * op.kv_heads + kv) * parts);
        for j in j..op.keys.min(j + ROWS) {
            for (start, to) in [(first.dk, &of.dk), (first.dv, &of.dv)] {
                unsafe {
                    for_lanes!(S, size, |e, lanes| {
                        let at = |part: usize| start.add(part * of.shares.task_len() + j * size + e);
                        let mut sum = f32::load::<S>(at(0), lanes);
                        for part in 1..parts {
                            sum = S::add(sum, f32::load::<S>(at(part), lanes));
                        }
                        f32::store::<S>(sums.add(e), sum, lanes);
                    });
                    store_row::<S, T>(sums, size, to, op.key(b, j, kv));
                }
            }
        }
    }
}
