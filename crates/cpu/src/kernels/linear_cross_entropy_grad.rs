//! Gradients of the head: logits are made again, a chunk of tokens at a time, and become their own gradients.
//!
//! `dlogits = (softmax - onehot) * dloss`, times the slope of the cap if there is one, rounded to bf16 where h is,
//! `dh = dlogits W`, `dW = dlogits^T h`, and db the sum over tokens of dlogits. A chunk is the token-reduction block of dW and
//! db: calls may stop at any multiple of a chunk's tokens and be continued with `accumulate`. Work 4NVD FLOP, or 6NVD with both
//! gradients of h and W. With an adapter, `du = dlogits up` and `dup = dlogits^T u` in the same way. Look next at `linear_cross_entropy.rs` for shapes, workspace and masking.

use crate::rules::RULES;
use half::bf16;

use super::bias_grad::Rows;
use super::column_sums::column_sums;
use super::gemm::{Epilogue, Matrix, gemm};
use super::linear_cross_entropy::{Head, HeadSize, SoftmaxRows};
use crate::element::Element;
use crate::pool::ThreadPool;
use crate::shared::Out;
use crate::simd::launch;
use std::ops::Range;

/// What the head's gradient writes.
pub struct HeadGrad<'a, T> {
    /// `[N, D]`, if wanted.
    pub dh: Option<&'a mut [T]>,
    /// `[N, R]`, if wanted.
    pub du: Option<&'a mut [T]>,
    /// `[V, D]`, if wanted.
    pub dw: Option<&'a mut [f32]>,
    /// `[V]`, if wanted.
    pub db: Option<&'a mut [f32]>,
    /// `[V, R]`, if wanted.
    pub dup: Option<&'a mut [f32]>,
    /// Adds onto what `dw`, `db` and `dup` hold.
    pub accumulate: bool,
}

impl<T> Default for HeadGrad<'_, T> {
    /// Nothing is wanted.
    fn default() -> Self {
        HeadGrad { dh: None, du: None, dw: None, db: None, dup: None, accumulate: false }
    }
}

/// Gradients of the head for the per-token cotangents `dloss`.
pub fn linear_cross_entropy_grad<T: Element, W: Element>(
    pool: &ThreadPool,
    head: Head<'_, T, W>,
    dloss: &[f32],
    workspace: &mut [f32],
    grad: HeadGrad<'_, T>,
) {
    chunked_gradients(pool, head, dloss, workspace, None, grad);
}

/// Loss if wanted, logits and gradients, chunk by chunk.
pub(super) fn chunked_gradients<T: Element, W: Element>(
    pool: &ThreadPool,
    head: Head<'_, T, W>,
    dloss: &[f32],
    workspace: &mut [f32],
    mut loss: Option<&mut [f32]>,
    grad: HeadGrad<'_, T>,
) {
    head.check(workspace);
    let HeadSize { tokens, hidden, vocab } = head.size;
    let HeadGrad { mut dh, mut du, mut dw, mut db, mut dup, mut accumulate } = grad;
    let (rank, u, up) = head.low_rank.unwrap_or_default();
    assert_eq!(dloss.len(), tokens, "linear_cross_entropy_grad: dloss is not [{tokens}]");
    assert!(loss.as_ref().is_none_or(|loss| loss.len() == tokens), "linear_cross_entropy_grad: loss is not [{tokens}]");
    assert!(dh.as_ref().is_none_or(|dh| dh.len() == tokens * hidden), "linear_cross_entropy_grad: dh is not like h");
    assert!(du.as_ref().is_none_or(|du| du.len() == u.len()), "linear_cross_entropy_grad: du is not like u");
    if let Some(loss) = &mut loss {
        loss.fill(0.0);
    }
    let step = RULES.head_tokens(vocab);
    for chunk in 0..tokens.div_ceil(step) {
        let all = chunk * step..((chunk + 1) * step).min(tokens);
        let rows = head.trained_rows(chunk).unwrap_or(all.start..all.start);
        clear_around(dh.as_deref_mut(), hidden, &all, &rows);
        clear_around(du.as_deref_mut(), rank, &all, &rows);
        if rows.is_empty() {
            continue;
        }
        let logits = &mut workspace[..rows.len() * vocab];
        head.logits(pool, &rows, logits);
        let kernel = SoftmaxRows {
            vocab,
            bias: head.bias,
            softcap: head.softcap,
            targets: &head.targets[rows.clone()],
            dloss: Some(&dloss[rows.clone()]),
            narrow: !T::IS_F32,
            logits: Out::new(logits),
            loss: loss.as_mut().map(|loss| Out::new(&mut loss[rows.clone()])),
        };
        launch(pool, rows.len(), &kernel);
        let (span, narrow) = (rows.start * hidden..rows.end * hidden, rows.start * rank..rows.end * rank);
        let base = Products {
            width: hidden,
            x: &head.h[span.clone()],
            weight: head.weight,
            dx: dh.as_mut().map(|dh| &mut dh[span]),
            dw: dw.as_deref_mut(),
        };
        let adapter = Products {
            width: rank,
            x: &u[narrow.clone()],
            weight: up,
            dx: du.as_mut().map(|du| &mut du[narrow]),
            dw: dup.as_deref_mut(),
        };
        let to = ChunkGrad { base, adapter, db: db.as_deref_mut(), accumulate };
        if T::IS_F32 {
            to.add(pool, [rows.len(), vocab], Matrix::rows(&*logits, vocab));
        } else {
            let narrow: &[bf16] = bytemuck::cast_slice(logits);
            to.add(pool, [rows.len(), vocab], Matrix { data: narrow, row_stride: 2 * vocab, col_stride: 1 });
        }
        accumulate = true;
    }
    if !accumulate {
        [dw, db, dup].into_iter().flatten().for_each(|gradient| gradient.fill(0.0));
    }
}

/// Zeros in the rows of a chunk before and behind those that are trained.
fn clear_around<T: Element>(gradient: Option<&mut [T]>, width: usize, chunk: &Range<usize>, trained: &Range<usize>) {
    if let Some(gradient) = gradient {
        gradient[chunk.start * width..trained.start * width].fill(T::from_f32(0.0));
        gradient[trained.end * width..chunk.end * width].fill(T::from_f32(0.0));
    }
}

/// What one chunk's gradients are made of and added onto.
struct ChunkGrad<'a, T, W> {
    base: Products<'a, T, W>,
    adapter: Products<'a, T, T>,
    db: Option<&'a mut [f32]>,
    accumulate: bool,
}

/// Gradients of a product `x weight^T` of this many columns.
struct Products<'a, T, W> {
    width: usize,
    x: &'a [T],
    weight: &'a [W],
    dx: Option<&'a mut [T]>,
    dw: Option<&'a mut [f32]>,
}

impl<T: Element, W: Element> ChunkGrad<'_, T, W> {
    /// The products of both, and `db +=` the sum over tokens of dlogits, of so many rows and columns.
    fn add<G: Element>(self, pool: &ThreadPool, [rows, vocab]: [usize; 2], dlogits: Matrix<'_, G>) {
        let columns = Rows { data: dlogits.data, stride: dlogits.row_stride };
        self.base.add(pool, [rows, vocab], dlogits, self.accumulate);
        self.adapter.add(pool, [rows, vocab], dlogits, self.accumulate);
        if let Some(db) = self.db {
            column_sums(pool, rows, &columns, self.accumulate, db);
        }
    }
}

impl<T: Element, W: Element> Products<'_, T, W> {
    /// `dx = dlogits weight` and `dw += dlogits^T x`.
    fn add<G: Element>(self, pool: &ThreadPool, [rows, vocab]: [usize; 2], dlogits: Matrix<'_, G>, accumulate: bool) {
        let width = self.width;
        if let Some(dx) = self.dx {
            gemm(pool, [rows, width, vocab], dlogits, Matrix::rows(self.weight, width), Epilogue::default(), dx);
        }
        if let Some(dw) = self.dw {
            let transposed = Matrix { row_stride: dlogits.col_stride, col_stride: dlogits.row_stride, ..dlogits };
            let epilogue = Epilogue::scaled(1.0, accumulate);
            gemm(pool, [vocab, width, rows], transposed, Matrix::rows(self.x, width), epilogue, dw);
        }
    }
}

#[cfg(test)]
mod tests {
    use remat_ir::ops::IGNORED;

    use super::super::linear_cross_entropy::{HeadSize, linear_cross_entropy};
    use super::super::linear_cross_entropy_with_grad::linear_cross_entropy_with_grad;
    use super::*;
    use crate::testing::{assert_near, every_level, normals, pools};

    fn naive(head: &Head<'_, f32, f32>, dloss: &[f32]) -> [Vec<f64>; 4] {
        let HeadSize { tokens, hidden, vocab } = head.size;
        let at = |v: usize, d: usize| v * hidden + d;
        let mut want = [vec![0.0; tokens], vec![0.0; tokens * hidden], vec![0.0; vocab * hidden], vec![0.0; vocab]];
        for n in 0..tokens {
            if head.targets[n] == IGNORED {
                continue;
            }
            let h = |d: usize| f64::from(head.h[n * hidden + d]);
            let product = |v: usize| (0..hidden).map(|d| h(d) * f64::from(head.weight[at(v, d)])).sum::<f64>();
            let capped = |z: f64| head.softcap.map_or(z, |cap| f64::from(cap) * (z / f64::from(cap)).tanh());
            let bend = |z: f64| head.softcap.map_or(1.0, |cap| 1.0 - (z / f64::from(cap)).powi(2));
            let bias = |v: usize| head.bias.map_or(0.0, |bias| f64::from(bias[v]));
            let logits: Vec<f64> = (0..vocab).map(|v| capped(product(v) + bias(v))).collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            let target = head.targets[n] as usize;
            want[0][n] = sum.ln() - logits[target];
            for v in 0..vocab {
                let onehot = if v == target { 1.0 } else { 0.0 };
                let g = (logits[v].exp() / sum - onehot) * f64::from(dloss[n]) * bend(logits[v]);
                for d in 0..hidden {
                    want[1][n * hidden + d] += g * f64::from(head.weight[at(v, d)]);
                    want[2][at(v, d)] += g * h(d);
                }
                want[3][v] += g;
            }
        }
        want
    }

    #[test]
    fn loss_and_gradients_match_f64_with_masked_tokens() {
        let sizes = [(1, 3, 2), (19, 16, 70), (700, 7, 33)];
        let caps = [None, Some(1.5)];
        for ((tokens, hidden, vocab), softcap) in sizes.into_iter().flat_map(|size| caps.map(|cap| (size, cap))) {
            let (h, weight) = (normals(tokens * hidden, 1), normals(vocab * hidden, 2));
            let dloss = normals(tokens, 3);
            let targets: Vec<i32> = (0..tokens)
                .map(|n| if n % 5 == 1 || (256..512).contains(&n) { IGNORED } else { (n * 7 % vocab) as i32 })
                .collect();
            let size = HeadSize { tokens, hidden, vocab };
            let bias = softcap.map(|_| normals(vocab, 4));
            let head = Head {
                size,
                softcap,
                h: &h,
                weight: &weight,
                bias: bias.as_deref(),
                low_rank: None,
                targets: &targets,
            };
            let want = naive(&head, &dloss);
            every_level(
                |pool| {
                    let mut workspace = vec![f32::NAN; size.workspace_len()];
                    let mut forward = vec![f32::NAN; tokens];
                    linear_cross_entropy(pool, head, &mut workspace, &mut forward);
                    let mut out = [tokens, tokens * hidden, vocab * hidden, vocab].map(|len| vec![f32::NAN; len]);
                    let [loss, dh, dw, db] = &mut out;
                    let grad = HeadGrad { dh: Some(dh), dw: Some(dw), db: Some(db), ..HeadGrad::default() };
                    linear_cross_entropy_with_grad(pool, head, &dloss, &mut workspace, loss, grad);
                    assert_eq!(&forward, loss);
                    let mut only_dw = vec![f32::NAN; dw.len()];
                    let grad = HeadGrad { dw: Some(&mut only_dw), ..HeadGrad::default() };
                    linear_cross_entropy_grad(pool, head, &dloss, &mut workspace, grad);
                    assert_eq!(&only_dw, dw);
                    out.to_vec()
                },
                |level, got| {
                    for (i, want) in want.iter().enumerate() {
                        let scale = vec![20.0 * if i >= 2 { tokens as f64 } else { 1.0 }; want.len()];
                        assert_near(&format!("{level} output {i}"), &got[i], want, &scale, 1e-6);
                    }
                },
            );
        }
    }

    #[test]
    fn all_masked_gives_zeros_and_accumulation_keeps_what_was_there() {
        let size = HeadSize { tokens: 5, hidden: 4, vocab: 6 };
        let (h, weight) = (normals(20, 1), normals(24, 2));
        let head =
            Head { size, softcap: None, h: &h, weight: &weight, bias: None, low_rank: None, targets: &[IGNORED; 5] };
        for pool in pools(&[1, 2]) {
            let mut workspace = vec![f32::NAN; size.workspace_len()];
            let (mut loss, mut dh, mut dw) = (vec![f32::NAN; 5], vec![f32::NAN; 20], vec![f32::NAN; 24]);
            let grad = HeadGrad { dh: Some(&mut dh), dw: Some(&mut dw), ..HeadGrad::default() };
            linear_cross_entropy_with_grad(&pool, head, &[1.0; 5], &mut workspace, &mut loss, grad);
            assert!(loss.iter().chain(&dh).chain(&dw).all(|x| *x == 0.0));
            dw.fill(3.0);
            let grad = HeadGrad { dh: Some(&mut dh), dw: Some(&mut dw), accumulate: true, ..HeadGrad::default() };
            linear_cross_entropy_grad(&pool, head, &[1.0; 5], &mut workspace, grad);
            assert!(dw.iter().all(|x| *x == 3.0));
        }
    }

    #[test]
    fn token_tiles_at_chunks_change_no_bit() {
        let chunk = RULES.head_tokens(40);
        let size = HeadSize { tokens: 700, hidden: 10, vocab: 40 };
        let (h, weight, dloss) = (normals(7000, 1), normals(400, 2), normals(700, 3));
        let targets: Vec<i32> = (0..700).map(|n| if n % 3 == 0 { IGNORED } else { n % 40 }).collect();
        for pool in pools(&[2]) {
            let run = |cuts: &[usize]| {
                let mut dw = normals(400, 4);
                let mut dh = vec![0.0; 7000];
                for cut in cuts.windows(2) {
                    let (from, to) = (cut[0], cut[1]);
                    let size = HeadSize { tokens: to - from, ..size };
                    let (h, targets) = (&h[from * 10..to * 10], &targets[from..to]);
                    let head = Head { size, softcap: None, h, weight: &weight, bias: None, low_rank: None, targets };
                    let mut workspace = vec![f32::NAN; size.workspace_len()];
                    let dh = &mut dh[from * 10..to * 10];
                    let grad = HeadGrad { dh: Some(dh), dw: Some(&mut dw), accumulate: true, ..HeadGrad::default() };
                    linear_cross_entropy_grad(&pool, head, &dloss[from..to], &mut workspace, grad);
                }
                (dh, dw)
            };
            assert_eq!(run(&[0, 700]), run(&[0, chunk, 2 * chunk, 700]));
        }
    }

    #[test]
    fn a_target_outside_the_vocabulary_gives_nan() {
        let size = HeadSize { tokens: 2, hidden: 2, vocab: 3 };
        let (h, weight) = (normals(4, 1), normals(6, 2));
        let head = Head { size, softcap: None, h: &h, weight: &weight, bias: None, low_rank: None, targets: &[3, -7] };
        let (mut loss, mut workspace) = ([0.0; 2], vec![f32::NAN; size.workspace_len()]);
        linear_cross_entropy(&ThreadPool::new(1), head, &mut workspace, &mut loss);
        assert!(loss.iter().all(|loss| loss.is_nan()));
    }
}
