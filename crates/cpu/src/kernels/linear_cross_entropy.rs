//! The language-model head and its loss in one: logits exist for a chunk of tokens at a time, never all at once.
//!
//! Shapes: h [N, D], weight [V, D], bias [V] if any, an adapter's u [N, R] and up [V, R] if any, targets [N], loss [N]; workspace `min(N, chunk) * V` f32. The loss of a token
//! is `log sum exp(logits) - logits[target]`; with a cap, a logit z is `cap tanh(z / cap)` of the product and its bias. The
//! vocabulary is never cut for a sum. Tokens with target -100 have loss 0
//! and gradient 0: chunks are trimmed to the rows between the first and the last trained token, which only drops exact
//! zeros. A target outside the vocabulary has no meaning and gives NaN. Work 2NVD FLOP.

use super::embedding::row_of;
use super::gemm::{Epilogue, Matrix, gemm};
use crate::element::{Element, Lanes};
use crate::pool::{Scratch, ThreadPool};
use crate::rules::RULES;
use crate::shared::Out;
use crate::simd::{Kernel, Simd, for_lanes, launch};
use crate::vector_math::{capped, capped_slope, exp};
use half::bf16;
use remat_ir::ops::IGNORED;

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
        self.tokens.min(RULES.head_tokens(self.vocab)) * self.vocab
    }
}

/// What the head reads: hidden states, weight and targets.
#[derive(Clone, Copy)]
pub struct Head<'a, T, W> {
    /// Sizes.
    pub size: HeadSize,
    /// Logits stay within this.
    pub softcap: Option<f32>,
    /// `[N, D]`.
    pub h: &'a [T],
    /// `[V, D]`.
    pub weight: &'a [W],
    /// `[V]`, added to the logits.
    pub bias: Option<&'a [T]>,
    /// R, u `[N, R]` and up `[V, R]`, whose product is added to the logits.
    pub low_rank: Option<(usize, &'a [T], &'a [T])>,
    /// `[N]`; -100 for tokens that are not trained.
    pub targets: &'a [i32],
}

impl<T: Element, W: Element> Head<'_, T, W> {
    pub(super) fn check(&self, workspace: &[f32]) {
        let HeadSize { tokens, hidden, vocab } = self.size;
        assert_eq!(self.h.len(), tokens * hidden, "linear_cross_entropy: h is not [{tokens}, {hidden}]");
        assert_eq!(self.weight.len(), vocab * hidden, "linear_cross_entropy: weight is not [{vocab}, {hidden}]");
        assert!(self.bias.is_none_or(|bias| bias.len() == vocab), "linear_cross_entropy: bias is not [{vocab}]");
        if let Some((rank, u, up)) = self.low_rank {
            assert_eq!(u.len(), tokens * rank, "linear_cross_entropy: u is not [{tokens}, {rank}]");
            assert_eq!(up.len(), vocab * rank, "linear_cross_entropy: up is not [{vocab}, {rank}]");
        }
        assert_eq!(self.targets.len(), tokens, "linear_cross_entropy: targets are not [{tokens}]");
        assert!(workspace.len() >= self.size.workspace_len(), "linear_cross_entropy: workspace is too small");
    }

    /// Rows of a chunk between its first and last trained token; `None` if there is none.
    pub(super) fn trained_rows(&self, chunk: usize) -> Option<std::ops::Range<usize>> {
        let step = RULES.head_tokens(self.size.vocab);
        let from = chunk * step;
        let targets = &self.targets[from..(from + step).min(self.size.tokens)];
        let first = targets.iter().position(|&t| t != IGNORED)?;
        let last = targets.iter().rposition(|&t| t != IGNORED)?;
        Some(from + first..from + last + 1)
    }

    pub(super) fn logits(&self, pool: &ThreadPool, rows: &std::ops::Range<usize>, logits: &mut [f32]) {
        let HeadSize { hidden, vocab, .. } = self.size;
        let h = Matrix::rows(&self.h[rows.start * hidden..rows.end * hidden], hidden);
        let weight = Matrix::transposed(self.weight, hidden);
        gemm(pool, [rows.len(), vocab, hidden], h, weight, Epilogue::default(), &mut *logits);
        if let Some((rank, u, up)) = self.low_rank {
            let u = Matrix::rows(&u[rows.start * rank..rows.end * rank], rank);
            let up = Matrix::transposed(up, rank);
            gemm(pool, [rows.len(), vocab, rank], u, up, Epilogue::scaled(1.0, true), logits);
        }
    }
}

/// Losses of each row of logits, and the logits replaced by their gradients where `dloss` is given.
///
/// Gradients that `narrow` asks for are bf16, at the start of their row: row stride `2 * vocab` bf16.
pub(super) struct SoftmaxRows<'a, T> {
    pub vocab: usize,
    pub bias: Option<&'a [T]>,
    pub softcap: Option<f32>,
    pub targets: &'a [i32],
    pub dloss: Option<&'a [f32]>,
    pub narrow: bool,
    pub logits: Out<'a, f32>,
    pub loss: Option<Out<'a, f32>>,
}

impl<T: Element> Kernel for SoftmaxRows<'_, T> {
    #[inline(always)]
    unsafe fn task<S: Simd>(&self, row: usize, _: &mut Scratch) {
        unsafe {
            let logits = self.logits.at(row * self.vocab);
            let target = self.targets[row];
            if target == IGNORED {
                if self.dloss.is_some() {
                    logits.write_bytes(0, self.vocab);
                }
                if let Some(loss) = &self.loss {
                    *loss.at(row) = 0.0;
                }
                return;
            }
            if let Some(bias) = self.bias {
                for_lanes!(S, self.vocab, |j, lanes| {
                    let term = T::load::<S>(bias.as_ptr().add(j), lanes);
                    let logit = S::add(f32::load::<S>(logits.add(j), lanes), term);
                    f32::store::<S>(logits.add(j), logit, lanes);
                });
            }
            if let Some(cap) = self.softcap {
                for_lanes!(S, self.vocab, |j, lanes| {
                    let logit = f32::load::<S>(logits.add(j), lanes);
                    f32::store::<S>(logits.add(j), capped::<S>(logit, cap), lanes);
                });
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
            let target = row_of(target, self.vocab);
            let target_logit = target.map_or(f32::NAN, |target| *logits.add(target));
            if let Some(loss) = &self.loss {
                *loss.at(row) = (f64::from(sum).ln() - (f64::from(target_logit) - f64::from(top))) as f32;
            }
            if let Some(dloss) = self.dloss {
                let factor = dloss[row] / sum;
                // Each vector of a narrow row is written to where an earlier one was read.
                let narrow: *mut bf16 = logits.cast();
                for_lanes!(S, self.vocab, |j, lanes| {
                    let logit = f32::load::<S>(logits.add(j), lanes);
                    let mut gradient = S::mul(exp::<S>(S::sub(logit, S::splat(top))), S::splat(factor));
                    if let Some(cap) = self.softcap {
                        gradient = S::mul(gradient, capped_slope::<S>(logit, cap));
                    }
                    if self.narrow {
                        bf16::store::<S>(narrow.add(j), gradient, lanes);
                    } else {
                        f32::store::<S>(logits.add(j), gradient, lanes);
                    }
                });
                if let Some(target) = target {
                    let probability = S::mul(exp::<S>(S::splat(target_logit - top)), S::splat(factor));
                    let mut first = [0.0; 16];
                    S::store(first.as_mut_ptr(), probability);
                    let bend = self.softcap.map_or(1.0, |cap| 1.0 - (target_logit / cap) * (target_logit / cap));
                    let gradient = (first[0] - dloss[row]) * bend;
                    if self.narrow {
                        *narrow.add(target) = bf16::from_f32(gradient);
                    } else {
                        *logits.add(target) = gradient;
                    }
                }
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
    for chunk in 0..head.size.tokens.div_ceil(RULES.head_tokens(head.size.vocab)) {
        let Some(rows) = head.trained_rows(chunk) else { continue };
        let logits = &mut workspace[..rows.len() * head.size.vocab];
        head.logits(pool, &rows, logits);
        let targets = &head.targets[rows.clone()];
        let loss = Some(Out::new(&mut loss[rows.clone()]));
        let (vocab, softcap, bias, logits) = (head.size.vocab, head.softcap, head.bias, Out::new(logits));
        let kernel = SoftmaxRows { vocab, bias, softcap, targets, dloss: None, narrow: false, logits, loss };
        launch(pool, rows.len(), &kernel);
    }
}
