//! Gradients of attention, tile by tile, from q, k, v, o and the softmax statistic alone.
//!
//! With p = exp(scale q k^T - lse), the dropout factors z and D = sum over e of dy o: ds = p (z dy v^T - D),
//! dq = scale ds k, dk = scale ds^T q, dv = (p z)^T dy. Two passes without atomics: the first owns query tiles (dq) and
//! walks the keys upwards; the second owns key tiles of one kv head (dk, dv) and walks its query heads and then the
//! queries upwards. That order is fixed, so threads change no bit. Making the scores twice costs 7 products for 5. Of
//! bf16 operands, p z and ds are rounded to bf16 for their products where the level has the dot product.
//! Look next at `attention.rs` for shapes and tiles.

use super::attention::{Attention, MAX_HEAD_SIZE, QueryTile, ROWS, clip};
use super::gemm::ROW_STRIDE;
use super::gemm::form::Form;
use super::gemm::pack::Source;
use super::gemm::tile::Update;
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::exp;

/// Columns of a tile of scores: keys for dq, queries for dk and dv.
const COLUMNS: usize = 128;

/// What backward reads.
#[derive(Clone, Copy)]
pub struct AttentionGrad<'a, T> {
    /// The forward's sizes and attributes.
    pub op: Attention<'a>,
    /// `[B, T, H, E]`: the cotangent of o.
    pub dy: &'a [T],
    /// `[B, T, H, E]`.
    pub q: &'a [T],
    /// `[B, T, K, E]`.
    pub k: &'a [T],
    /// `[B, T, K, E]`.
    pub v: &'a [T],
    /// `[B, T, H, E]`: the forward's result.
    pub o: &'a [T],
    /// `[B, H, T]`: the forward's statistic.
    pub lse: &'a [f32],
}

/// Writes dq, dk and dv.
pub fn attention_grad<T: Element>(
    pool: &ThreadPool,
    grad: AttentionGrad<'_, T>,
    dq: &mut [T],
    dk: &mut [T],
    dv: &mut [T],
) {
    let (op, like_q) = (grad.op, [grad.dy.len(), grad.q.len(), grad.o.len(), dq.len()]);
    op.check("attention_grad", &like_q, &[grad.k.len(), grad.v.len(), dk.len(), dv.len()], grad.lse.len());
    let form = Form::of::<T, T>(pool.level());
    launch(pool, QueryTile::tasks(&op), &Queries { grad, form, dq: Out::new(dq) });
    let tasks = op.batch * op.kv_heads * op.tokens.div_ceil(ROWS);
    launch(pool, tasks, &Keys { grad, form, dk: Out::new(dk), dv: Out::new(dv) });
}

impl<T: Element> AttentionGrad<'_, T> {
    /// D of one query.
    #[inline(always)]
    unsafe fn delta<S: Simd>(&self, b: usize, i: usize, h: usize) -> f32 {
        let from = self.op.query(b, i, h);
        let mut sums = unsafe { S::splat(0.0) };
        for_lanes!(S, self.op.head_size, |e, lanes| {
            unsafe {
                let dy = T::load::<S>(self.dy.as_ptr().add(from + e), lanes);
                sums = S::fma(dy, T::load::<S>(self.o.as_ptr().add(from + e), lanes), sums);
            }
        });
        unsafe { S::sum(sums) }
    }
}

/// Scratch in pieces of one tile of rows.
fn tiles<const N: usize>(scratch: &mut Scratch) -> ([*mut f32; N], *mut f32) {
    let (tiles, rest) = scratch.f32s().split_at_mut(N * ROWS * ROW_STRIDE);
    assert!(rest.len() >= 4 * COLUMNS * (MAX_HEAD_SIZE + 32), "attention_grad: scratch is too small");
    let start = tiles.as_mut_ptr();
    (std::array::from_fn(|tile| start.wrapping_add(tile * ROWS * ROW_STRIDE)), rest.as_mut_ptr())
}

struct Queries<'a, T> {
    grad: AttentionGrad<'a, T>,
    form: Form,
    dq: Out<'a, T>,
}

impl<T: Element> Kernel for Queries<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let (grad, op, form) = (&self.grad, &self.grad.op, self.form);
        let tile = QueryTile::of(op, task);
        let (rows, size) = (tile.rows(), op.head_size);
        let ([q, dy, scores, dp, sums], panels) = tiles::<5>(scratch);
        let mut delta = [0.0f32; ROWS];
        unsafe {
            tile.pack::<S, T>(form, op, grad.q, q);
            tile.pack::<S, T>(form, op, grad.dy, dy);
            for (row, delta) in delta.iter_mut().enumerate().take(rows) {
                let (i, h) = tile.token_head(row);
                *delta = grad.delta::<S>(tile.b, i, h);
            }
            sums.write_bytes(0, rows * ROW_STRIDE);
            for (j, count) in tile.key_tiles(op, COLUMNS) {
                let (k, v) = (op.keys(grad.k, tile.b, j, tile.kv), op.keys(grad.v, tile.b, j, tile.kv));
                form.pack_panels::<S, T>(k.transposed(), size, count, panels);
                form.multiply::<S>(q, rows, panels, count, size, Update::plain(scores, ROW_STRIDE, op.scale, false));
                form.pack_panels::<S, T>(v.transposed(), size, count, panels);
                form.multiply::<S>(dy, rows, panels, count, size, Update::plain(dp, ROW_STRIDE, 1.0, false));
                for row in 0..rows {
                    self.score_grads::<S>(&tile, row, (j, count), scores, dp, delta[row]);
                    form.narrow_row::<S>(dp.add(row * ROW_STRIDE), count);
                }
                form.pack_panels::<S, T>(k, count, size, panels);
                form.multiply::<S>(dp, rows, panels, size, count, Update::plain(sums, ROW_STRIDE, op.scale, true));
            }
            for row in 0..rows {
                let (i, h) = tile.token_head(row);
                store_row::<S, T>(sums.add(row * ROW_STRIDE), size, &self.dq, op.query(tile.b, i, h));
            }
        }
    }
}

impl<T: Element> Queries<'_, T> {
    /// Replaces one row of `dp` by ds: 0 where the key is not visible.
    #[inline(always)]
    unsafe fn score_grads<S: Simd>(
        &self,
        tile: &QueryTile,
        row: usize,
        (j, count): (usize, usize),
        scores: *const f32,
        dp: *mut f32,
        delta: f32,
    ) {
        let op = &self.grad.op;
        let (i, h) = tile.token_head(row);
        let seen = clip(op.visible(tile.b, i), j, count);
        let statistic = op.statistic(tile.b, h, i);
        let lse = self.grad.lse[statistic];
        unsafe {
            let (scores, dp) = (scores.add(row * ROW_STRIDE), dp.add(row * ROW_STRIDE));
            let (first, len) = (dp.add(seen.start), seen.len());
            if let Some(dropout) = op.dropout {
                let element = (statistic * op.tokens + j + seen.start) as u64;
                dropout.apply(element, std::slice::from_raw_parts_mut(first, len));
            }
            for_lanes!(S, len, |key, lanes| {
                let p = exp::<S>(S::sub(f32::load::<S>(scores.add(seen.start + key), lanes), S::splat(lse)));
                let ds = S::mul(p, S::sub(f32::load::<S>(first.add(key), lanes), S::splat(delta)));
                f32::store::<S>(first.add(key), ds, lanes);
            });
            dp.write_bytes(0, seen.start);
            dp.add(seen.end).write_bytes(0, count - seen.end);
        }
    }
}

#[inline(always)]
unsafe fn store_row<S: Simd, T: Element>(from: *const f32, len: usize, to: &Out<'_, T>, at: usize) {
    for_lanes!(S, len, |e, lanes| { unsafe { T::store::<S>(to.at(at + e), S::load(from.add(e)), lanes) } });
}

struct Keys<'a, T> {
    grad: AttentionGrad<'a, T>,
    form: Form,
    dk: Out<'a, T>,
    dv: Out<'a, T>,
}

/// What the score gradients need of each query of a tile, one lane per query.
struct Columns {
    first_key: [f32; COLUMNS],
    token: [f32; COLUMNS],
    lse: [f32; COLUMNS],
    delta: [f32; COLUMNS],
}

impl<T: Element> Kernel for Keys<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, task: usize, scratch: &mut Scratch) {
        let (grad, op, form) = (&self.grad, &self.grad.op, self.form);
        let (size, blocks) = (op.head_size, op.tokens.div_ceil(ROWS));
        let (j, kv, b) = (task % blocks * ROWS, task / blocks % op.kv_heads, task / blocks / op.kv_heads);
        let rows = ROWS.min(op.tokens - j);
        let ([k, v, p, ds, kept, dk, dv], panels) = tiles::<7>(scratch);
        let panel = |index: usize| panels.wrapping_add(index * COLUMNS * (MAX_HEAD_SIZE + 32));
        unsafe {
            form.pack_rows::<S, T>(op.keys(grad.k, b, j, kv), rows, size, k);
            form.pack_rows::<S, T>(op.keys(grad.v, b, j, kv), rows, size, v);
            dk.write_bytes(0, rows * ROW_STRIDE);
            dv.write_bytes(0, rows * ROW_STRIDE);
            for h in kv * op.group()..(kv + 1) * op.group() {
                for i in (j / COLUMNS * COLUMNS..op.tokens).step_by(COLUMNS) {
                    let count = COLUMNS.min(op.tokens - i);
                    let Some(columns) = self.columns::<S>(b, h, i..i + count, j..j + rows) else { continue };
                    let (q, dy) = (op.queries(grad.q, b, i, h), op.queries(grad.dy, b, i, h));
                    self.transposed_products::<S>([k, v], rows, [q, dy], count, [p, ds], panel(0));
                    if op.dropout.is_some() {
                        self.transposed_factors(b, h, i..i + count, j..j + rows, kept);
                    }
                    for row in 0..rows {
                        let at = row * ROW_STRIDE;
                        self.score_grads::<S>(&columns, j + row, [p.add(at), ds.add(at), kept.add(at)]);
                        form.narrow_row::<S>(p.add(at), COLUMNS);
                        form.narrow_row::<S>(ds.add(at), COLUMNS);
                    }
                    form.pack_panels::<S, T>(dy, count, size, panel(2));
                    form.multiply::<S>(p, rows, panel(2), size, count, Update::plain(dv, ROW_STRIDE, 1.0, true));
                    form.pack_panels::<S, T>(q, count, size, panel(3));
                    form.multiply::<S>(ds, rows, panel(3), size, count, Update::plain(dk, ROW_STRIDE, op.scale, true));
                }
            }
            for row in 0..rows {
                let at = op.key(b, j + row, kv);
                store_row::<S, T>(dk.add(row * ROW_STRIDE), size, &self.dk, at);
                store_row::<S, T>(dv.add(row * ROW_STRIDE), size, &self.dv, at);
            }
        }
    }
}

impl<T: Element> Keys<'_, T> {
    /// Statistics of a tile of queries; `None` if none of them sees any of the keys.
    #[inline(always)]
    unsafe fn columns<S: Simd>(
        &self,
        b: usize,
        h: usize,
        queries: std::ops::Range<usize>,
        keys: std::ops::Range<usize>,
    ) -> Option<Columns> {
        let op = &self.grad.op;
        let mut some = false;
        // Queries that do not exist see no key: their first key lies behind every other.
        let (none, zero) = ([f32::INFINITY; COLUMNS], [0.0; COLUMNS]);
        let mut columns = Columns { first_key: none, token: zero, lse: zero, delta: zero };
        for (column, i) in queries.clone().enumerate() {
            let visible = op.visible(b, i);
            some |= visible.start < keys.end && keys.start < visible.end;
            // Token numbers are exact in f32 up to 2^24.
            columns.first_key[column] = visible.start as f32;
            columns.token[column] = i as f32;
        }
        if !some {
            return None;
        }
        for (column, i) in queries.enumerate() {
            columns.lse[column] = self.grad.lse[op.statistic(b, h, i)];
            columns.delta[column] = unsafe { self.grad.delta::<S>(b, i, h) };
        }
        Some(columns)
    }

    /// Scores and dy v^T, with keys as rows and queries as columns.
    #[inline(always)]
    unsafe fn transposed_products<S: Simd>(
        &self,
        [k, v]: [*mut f32; 2],
        rows: usize,
        [q, dy]: [Source<T>; 2],
        count: usize,
        [p, ds]: [*mut f32; 2],
        panels: *mut f32,
    ) {
        let (size, form) = (self.grad.op.head_size, self.form);
        unsafe {
            form.pack_panels::<S, T>(q.transposed(), size, count, panels);
            form.multiply::<S>(k, rows, panels, count, size, Update::plain(p, ROW_STRIDE, self.grad.op.scale, false));
            form.pack_panels::<S, T>(dy.transposed(), size, count, panels);
            form.multiply::<S>(v, rows, panels, count, size, Update::plain(ds, ROW_STRIDE, 1.0, false));
        }
    }

    /// The dropout factors of a tile, keys as rows; made query by query, since the generator runs along the keys.
    #[inline(always)]
    unsafe fn transposed_factors(
        &self,
        b: usize,
        h: usize,
        queries: std::ops::Range<usize>,
        keys: std::ops::Range<usize>,
        to: *mut f32,
    ) {
        let op = &self.grad.op;
        let Some(dropout) = op.dropout else { return };
        let mut line = [0.0; ROWS];
        for (column, i) in queries.enumerate() {
            line.fill(1.0);
            dropout.apply((op.statistic(b, h, i) * op.tokens + keys.start) as u64, &mut line[..keys.len()]);
            for (row, factor) in line.iter().enumerate().take(keys.len()) {
                unsafe { *to.add(row * ROW_STRIDE + column) = *factor };
            }
        }
    }

    /// Replaces one key's scores by p z and its dy v^T by ds, 0 where the query does not see the key.
    #[inline(always)]
    unsafe fn score_grads<S: Simd>(&self, columns: &Columns, key: usize, [p, ds, kept]: [*mut f32; 3]) {
        unsafe {
            let (key, zero) = (S::splat(key as f32), S::splat(0.0));
            for_lanes!(S, COLUMNS, |column, _lanes| {
                let load = |of: &[f32; COLUMNS]| S::load(of.as_ptr().add(column));
                let probability = exp::<S>(S::sub(S::load(p.add(column)), load(&columns.lse)));
                let mut factored = probability;
                let mut dp = S::load(ds.add(column));
                if self.grad.op.dropout.is_some() {
                    let z = S::load(kept.add(column));
                    factored = S::mul(probability, z);
                    dp = S::mul(dp, z);
                }
                let slope = S::mul(probability, S::sub(dp, load(&columns.delta)));
                let seen = |v: S::V| {
                    let after_start = S::select_ge(key, load(&columns.first_key), v, zero);
                    S::select_ge(load(&columns.token), key, after_start, zero)
                };
                S::store(p.add(column), seen(factored));
                S::store(ds.add(column), seen(slope));
            });
        }
    }
}
