//! The language-model head and its loss in one: logits exist for `HEAD_CHUNK` tokens at a time, never all at once.
//!
//! Shapes: h [N, D], weight [V, D] or [D, V], targets [N], loss [N]; workspace `min(N, HEAD_CHUNK) * V` f32. The loss
//! of a token is `log sum exp(logits) - logits[target]`; `dlogits = (softmax - onehot) * dloss`. A chunk is the token-
//! reduction block of dW; the vocabulary is never cut for a sum. Tokens with target -100 have loss 0 and gradient 0:
//! chunks are trimmed to the rows between the first and the last trained token, which only drops exact zeros.
//! Work 2NVD FLOP forward, 4NVD or 6NVD with gradients.

use super::gemm::{Epilogue, Matrix, gemm};
use super::linear::WeightLayout;
use crate::element::Element;
use crate::pool::{Scratch, ThreadPool};
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};

/// Tokens whose logits exist at a time, and the token-reduction block of the head's weight gradient.
pub const HEAD_CHUNK: usize = 128;

/// The target of a token that is not trained.
pub const IGNORED_TARGET: i32 = -100;

/// Sizes of the head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadSize {
    /// N: rows of h.
    pub tokens: usize,
    /// D: columns of h.
    pub hidden: usize,
    /// V: number of logits.
    pub vocab: usize,
}

impl HeadSize {
    /// Length in f32 of the workspace that forward and gradient need.
    pub fn workspace_len(self) -> usize {
        self.tokens.min(HEAD_CHUNK) * self.vocab
    }
}

/// What the head reads: hidden states, weight and targets.
#[derive(Clone, Copy)]
pub struct Head<'a, T, W> {
    /// Sizes.
    pub size: HeadSize,
    /// `OutIn` for `[V, D]`, `InOut` for `[D, V]`.
    pub layout: WeightLayout,
    /// `[N, D]`.
    pub h: &'a [T],
    /// The weight.
    pub weight: &'a [W],
    /// `[N]`; -100 for tokens that are not trained.
    pub targets: &'a [i32],
}

impl<T: Element, W: Element> Head<'_, T, W> {
    fn check(&self, workspace: &[f32]) {
        let HeadSize { tokens, hidden, vocab } = self.size;
        assert_eq!(self.h.len(), tokens * hidden, "linear_cross_entropy: h is not [{tokens}, {hidden}]");
        assert_eq!(self.weight.len(), vocab * hidden, "linear_cross_entropy: weight is not [{vocab}, {hidden}]");
        assert_eq!(self.targets.len(), tokens, "linear_cross_entropy: targets are not [{tokens}]");
        assert!(workspace.len() >= self.size.workspace_len(), "linear_cross_entropy: workspace is too small");
        let inside = |&t: &i32| t == IGNORED_TARGET || usize::try_from(t).is_ok_and(|t| t < vocab);
        assert!(self.targets.iter().all(inside), "linear_cross_entropy: a target is outside the vocabulary of {vocab}");
    }

    /// Rows of a chunk between its first and last trained token; `None` if there is none.
    fn trained_rows(&self, chunk: usize) -> Option<std::ops::Range<usize>> {
        let from = chunk * HEAD_CHUNK;
        let targets = &self.targets[from..(from + HEAD_CHUNK).min(self.size.tokens)];
        let first = targets.iter().position(|&t| t != IGNORED_TARGET)?;
        let last = targets.iter().rposition(|&t| t != IGNORED_TARGET)?;
        Some(from + first..from + last + 1)
    }

    fn logits(&self, pool: &ThreadPool, rows: &std::ops::Range<usize>, logits: &mut [f32]) {
        let HeadSize { hidden, vocab, .. } = self.size;
        let h = Matrix::rows(&self.h[rows.start * hidden..rows.end * hidden], hidden);
        let weight = self.layout.in_out(self.weight, hidden, vocab);
        gemm(pool, [rows.len(), vocab, hidden], h, weight, Epilogue::default(), logits);
    }
}

/// Losses of each row of logits, and the logits replaced by their gradients where `dloss` is given.
struct SoftmaxRows<'a> {
    vocab: usize,
    targets: &'a [i32],
    dloss: Option<&'a [f32]>,
    logits: Out<'a, f32>,
    loss: Option<Out<'a, f32>>,
}

impl Kernel for SoftmaxRows<'_> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, row: usize, _: &mut Scratch) {
        use crate::element::Lanes;
        use crate::vector_math::exp;
        unsafe {
            let logits = self.logits.at(row * self.vocab);
            let target = self.targets[row];
            if target == IGNORED_TARGET {
                if self.dloss.is_some() {
                    logits.write_bytes(0, self.vocab);
                }
                if let Some(loss) = &self.loss {
                    *loss.at(row) = 0.0;
                }
                return;
            }
            let mut top = f32::NEG_INFINITY;
            let whole = self.vocab / S::LANES * S::LANES;
            let mut tops = S::splat(top);
            for_lanes!(S, whole, |j, _lanes| { tops = S::max(S::load(logits.add(j)), tops) });
            top = top.max(S::fold_max(tops));
            for j in whole..self.vocab {
                top = top.max(*logits.add(j));
            }
            let mut sums = S::splat(0.0);
            for_lanes!(S, self.vocab, |j, lanes| {
                let shifted = S::sub(f32::load::<S>(logits.add(j), lanes), S::splat(top));
                let e = exp::<S>(shifted);
                sums = S::add(sums, if lanes == S::LANES { e } else { keep::<S>(e, lanes) });
            });
            let sum = S::sum(sums);
            let target_logit = *logits.add(target as usize);
            if let Some(loss) = &self.loss {
                *loss.at(row) = (f64::from(sum).ln() - (f64::from(target_logit) - f64::from(top))) as f32;
            }
            if let Some(dloss) = self.dloss {
                let factor = dloss[row] / sum;
                for_lanes!(S, self.vocab, |j, lanes| {
                    let shifted = S::sub(f32::load::<S>(logits.add(j), lanes), S::splat(top));
                    f32::store::<S>(logits.add(j), S::mul(exp::<S>(shifted), S::splat(factor)), lanes);
                });
                *logits.add(target as usize) -= dloss[row];
            }
        }
    }
}

/// The first `lanes` lanes, zero in the others.
#[inline(always)]
unsafe fn keep<S: Simd>(v: S::V, lanes: usize) -> S::V {
    let mut buffer = [0.0; 16];
    unsafe {
        S::store(buffer.as_mut_ptr(), v);
        S::load_partial(buffer.as_ptr(), lanes)
    }
}

/// `loss[n] = -log softmax(h[n] W)[targets[n]]`, 0 where the target is -100.
pub fn linear_cross_entropy<T: Element, W: Element>(
    pool: &ThreadPool,
    head: Head<'_, T, W>,
    workspace: &mut [f32],
    loss: &mut [f32],
) {
    head.check(workspace);
    assert_eq!(loss.len(), head.size.tokens, "linear_cross_entropy: loss is not [{}]", head.size.tokens);
    loss.fill(0.0);
    for chunk in 0..head.size.tokens.div_ceil(HEAD_CHUNK) {
        let Some(rows) = head.trained_rows(chunk) else { continue };
        let logits = &mut workspace[..rows.len() * head.size.vocab];
        head.logits(pool, &rows, logits);
        let targets = &head.targets[rows.clone()];
        let loss = Some(Out::new(&mut loss[rows.clone()]));
        let kernel = SoftmaxRows { vocab: head.size.vocab, targets, dloss: None, logits: Out::new(logits), loss };
        launch(pool, rows.len(), &kernel);
    }
}

/// What the head's gradient writes; each output is optional except the input's gradient.
pub struct HeadGrad<'a, T> {
    /// `[N]`: the losses again, from the same pass.
    pub loss: Option<&'a mut [f32]>,
    /// `[N, D]`.
    pub dh: &'a mut [T],
    /// The weight's gradient in the weight's layout.
    pub dw: Option<&'a mut [f32]>,
    /// Adds onto what `dw` holds.
    pub accumulate: bool,
}

/// Gradients of the head for the per-token cotangents `dloss`; loss, logits and gradients in one pass over the chunks.
pub fn linear_cross_entropy_grad<T: Element, W: Element>(
    pool: &ThreadPool,
    head: Head<'_, T, W>,
    dloss: &[f32],
    workspace: &mut [f32],
    grad: HeadGrad<'_, T>,
) {
    head.check(workspace);
    let HeadSize { tokens, hidden, vocab } = head.size;
    let HeadGrad { mut loss, dh, mut dw, mut accumulate } = grad;
    assert_eq!([dloss.len(), dh.len()], [tokens, tokens * hidden], "linear_cross_entropy_grad: dloss or dh differ");
    assert!(loss.as_ref().is_none_or(|loss| loss.len() == tokens), "linear_cross_entropy_grad: loss is not [{tokens}]");
    if let Some(loss) = &mut loss {
        loss.fill(0.0);
    }
    for chunk in 0..tokens.div_ceil(HEAD_CHUNK) {
        let all = chunk * HEAD_CHUNK..((chunk + 1) * HEAD_CHUNK).min(tokens);
        let Some(rows) = head.trained_rows(chunk) else {
            dh[all.start * hidden..all.end * hidden].fill(T::from_f32(0.0));
            continue;
        };
        dh[all.start * hidden..rows.start * hidden].fill(T::from_f32(0.0));
        dh[rows.end * hidden..all.end * hidden].fill(T::from_f32(0.0));
        let logits = &mut workspace[..rows.len() * vocab];
        head.logits(pool, &rows, logits);
        let kernel = SoftmaxRows {
            vocab,
            targets: &head.targets[rows.clone()],
            dloss: Some(&dloss[rows.clone()]),
            logits: Out::new(logits),
            loss: loss.as_mut().map(|loss| Out::new(&mut loss[rows.clone()])),
        };
        launch(pool, rows.len(), &kernel);
        let (dlogits, span) = (&*logits, rows.start * hidden..rows.end * hidden);
        let weight = head.layout.flipped().in_out(head.weight, vocab, hidden);
        let plain = Epilogue::default();
        gemm(pool, [rows.len(), hidden, vocab], Matrix::rows(dlogits, vocab), weight, plain, &mut dh[span.clone()]);
        if let Some(dw) = &mut dw {
            let size = super::linear::LinearSize { tokens: rows.len(), input: hidden, output: vocab };
            super::linear::linear_dw(pool, size, head.layout, &head.h[span], dlogits, 1.0, accumulate, dw);
            accumulate = true;
        }
    }
    if let (Some(dw), false) = (dw, accumulate) {
        dw.fill(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{assert_near, every_level, normals, pools};

    fn naive(head: &Head<'_, f32, f32>, dloss: &[f32]) -> [Vec<f64>; 3] {
        let HeadSize { tokens, hidden, vocab } = head.size;
        let at = |v: usize, d: usize| if head.layout == WeightLayout::OutIn { v * hidden + d } else { d * vocab + v };
        let mut want = [vec![0.0; tokens], vec![0.0; tokens * hidden], vec![0.0; vocab * hidden]];
        for n in 0..tokens {
            if head.targets[n] == IGNORED_TARGET {
                continue;
            }
            let h = |d: usize| f64::from(head.h[n * hidden + d]);
            let logits: Vec<f64> =
                (0..vocab).map(|v| (0..hidden).map(|d| h(d) * f64::from(head.weight[at(v, d)])).sum()).collect();
            let sum: f64 = logits.iter().map(|l| l.exp()).sum();
            let target = head.targets[n] as usize;
            want[0][n] = sum.ln() - logits[target];
            for v in 0..vocab {
                let onehot = if v == target { 1.0 } else { 0.0 };
                let g = (logits[v].exp() / sum - onehot) * f64::from(dloss[n]);
                for d in 0..hidden {
                    want[1][n * hidden + d] += g * f64::from(head.weight[at(v, d)]);
                    want[2][at(v, d)] += g * h(d);
                }
            }
        }
        want
    }

    #[test]
    fn loss_and_gradients_match_f64_with_masked_tokens() {
        for (tokens, hidden, vocab) in [(1, 3, 2), (19, 16, 70), (300, 7, 33)] {
            let (h, weight) = (normals(tokens * hidden, 1), normals(vocab * hidden, 2));
            let dloss = normals(tokens, 3);
            let targets: Vec<i32> = (0..tokens)
                .map(|n| if n % 5 == 1 || (128..256).contains(&n) { IGNORED_TARGET } else { (n * 7 % vocab) as i32 })
                .collect();
            for layout in [WeightLayout::OutIn, WeightLayout::InOut] {
                let size = HeadSize { tokens, hidden, vocab };
                let head = Head { size, layout, h: &h, weight: &weight, targets: &targets };
                let want = naive(&head, &dloss);
                every_level(
                    |pool| {
                        let mut workspace = vec![f32::NAN; size.workspace_len()];
                        let mut forward = vec![f32::NAN; tokens];
                        linear_cross_entropy(pool, head, &mut workspace, &mut forward);
                        let mut out = [tokens, tokens * hidden, vocab * hidden].map(|len| vec![f32::NAN; len]);
                        let [loss, dh, dw] = &mut out;
                        let grad = HeadGrad { loss: Some(loss), dh, dw: Some(dw), accumulate: false };
                        linear_cross_entropy_grad(pool, head, &dloss, &mut workspace, grad);
                        assert_eq!(&forward, loss);
                        out.to_vec()
                    },
                    |level, got| {
                        for (i, want) in want.iter().enumerate() {
                            let scale = vec![20.0 * if i == 2 { tokens as f64 } else { 1.0 }; want.len()];
                            assert_near(&format!("{level} output {i}"), &got[i], want, &scale, 1e-6);
                        }
                    },
                );
            }
        }
    }

    #[test]
    fn all_masked_gives_zeros_and_accumulation_keeps_what_was_there() {
        let size = HeadSize { tokens: 5, hidden: 4, vocab: 6 };
        let (h, weight) = (normals(20, 1), normals(24, 2));
        let head = Head { size, layout: WeightLayout::OutIn, h: &h, weight: &weight, targets: &[IGNORED_TARGET; 5] };
        for pool in pools(&[1, 2]) {
            let mut workspace = vec![f32::NAN; size.workspace_len()];
            let (mut loss, mut dh, mut dw) = (vec![f32::NAN; 5], vec![f32::NAN; 20], vec![f32::NAN; 24]);
            let grad = HeadGrad { loss: Some(&mut loss), dh: &mut dh, dw: Some(&mut dw), accumulate: false };
            linear_cross_entropy_grad(&pool, head, &[1.0; 5], &mut workspace, grad);
            assert!(loss.iter().chain(&dh).chain(&dw).all(|x| *x == 0.0));
            dw.fill(3.0);
            let grad = HeadGrad { loss: None, dh: &mut dh, dw: Some(&mut dw), accumulate: true };
            linear_cross_entropy_grad(&pool, head, &[1.0; 5], &mut workspace, grad);
            assert!(dw.iter().all(|x| *x == 3.0));
        }
    }

    #[test]
    fn token_tiles_at_chunks_change_no_bit() {
        let size = HeadSize { tokens: 300, hidden: 10, vocab: 40 };
        let (h, weight, dloss) = (normals(3000, 1), normals(400, 2), normals(300, 3));
        let targets: Vec<i32> = (0..300).map(|n| if n % 3 == 0 { IGNORED_TARGET } else { n % 40 }).collect();
        for pool in pools(&[2]) {
            let run = |cuts: &[usize]| {
                let mut dw = normals(400, 4);
                let mut dh = vec![0.0; 3000];
                for cut in cuts.windows(2) {
                    let (from, to) = (cut[0], cut[1]);
                    let size = HeadSize { tokens: to - from, ..size };
                    let (h, targets) = (&h[from * 10..to * 10], &targets[from..to]);
                    let head = Head { size, layout: WeightLayout::OutIn, h, weight: &weight, targets };
                    let mut workspace = vec![f32::NAN; size.workspace_len()];
                    let dh = &mut dh[from * 10..to * 10];
                    let grad = HeadGrad { loss: None, dh, dw: Some(&mut dw), accumulate: true };
                    linear_cross_entropy_grad(&pool, head, &dloss[from..to], &mut workspace, grad);
                }
                (dh, dw)
            };
            assert_eq!(run(&[0, 300]), run(&[0, HEAD_CHUNK, 2 * HEAD_CHUNK, 300]));
        }
    }
}
