//! `linear_cross_entropy`: the language-model head and its loss per token, without a logits tensor:
//! loss[n] = log Σ over v of exp(z[v]) − z[target[n]], and 0 where the target is [`IGNORED`]; z[v] = h[n]·w[v] + b[v], with
//! `low_rank` + u[n]·up[v], too, or with a cap cap · tanh(of that / cap).
//!
//! Operands: h [.., D], w [V, D], then the head's bias b [V] if `bias`, then u [.., R] and up [V, R] if `low_rank`, what an
//! adapter adds to w without a copy of it, then targets i32 [..]. Result: loss f32, of the shape of targets. The logits exist for a chunk of tokens at a time, in workspace; the vocabulary is never cut, so that chunks do not change a bit.
//! Targets are checked where batches are made; one outside [0, V) has no meaning, and gives NaN here. Hsu et al.,
//! *Liger Kernel*, 2024, for the chunking.

use super::attention::dot;
use super::embedding::row_of;
use super::{IGNORED, LinearCrossEntropyGrad, OpDef, float, integer, operands, rank, softcap, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Kernels take this many tokens at a time at most, or samples do not show what they do at the seam.
#[doc(hidden)]
pub const MOST_CHUNK: usize = 256;

/// Attributes of `linear_cross_entropy`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearCrossEntropy {
    /// Logits z become cap · tanh(z / cap); not where the text form says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
    /// Whether a bias is added to the logits; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bias: bool,
    /// Whether a product of two narrow operands is added to the logits; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub low_rank: bool,
}

/// Whether an attribute is left out of the text form.
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

impl LinearCrossEntropy {
    /// Logits as they are, without a bias or an adapter.
    pub const PLAIN: LinearCrossEntropy = LinearCrossEntropy { softcap: None, bias: false, low_rank: false };

    /// Index of u among the operands, if it is one; up is the next.
    pub fn u_operand(&self) -> Option<usize> {
        self.low_rank.then_some(2 + usize::from(self.bias))
    }

    /// Index of the targets among the operands.
    pub fn targets_operand(&self) -> usize {
        2 + usize::from(self.bias) + 2 * usize::from(self.low_rank)
    }
}

/// Checks h, w, the bias and the low-rank operands if there are any, and targets, which the gradient and the fused form share.
pub(super) fn fit(op: &LinearCrossEntropy, inputs: &[&Type]) -> Result<(), String> {
    let (h, w, targets) = (inputs[0], inputs[1], inputs[op.targets_operand()]);
    float("h", h)?;
    float("w", w)?;
    rank("w", w, 2)?;
    if op.bias {
        typed("bias", inputs[2], w.dtype, &[w.shape[0]])?;
    }
    if let Some(at) = op.u_operand() {
        let (u, up) = (inputs[at], inputs[at + 1]);
        rank("up", up, 2)?;
        typed("up", up, w.dtype, &[w.shape[0], up.shape[1]])?;
        let shape: Vec<usize> = targets.shape.iter().copied().chain([up.shape[1]]).collect();
        typed("u", u, h.dtype, &shape)?;
    }
    integer("targets", targets)?;
    if h.shape.last() != w.shape.last() {
        return Err(format!("the last axis of h {h} does not match the last axis of w {w}"));
    }
    if h.shape.split_last().is_none_or(|(_, outer)| outer != targets.shape.dims()) {
        return Err(format!("h {h} must have the axes of targets {targets} and one more"));
    }
    Ok(())
}

/// FLOPs of one product between all tokens and w.
pub(super) fn product_work(h: &Type, w: &Type) -> f64 {
    2.0 * h.shape.numel() as f64 * w.shape[0] as f64
}

/// FLOPs of one product between u and up, where there are these.
pub(super) fn low_rank_work(op: &LinearCrossEntropy, inputs: &[&Type]) -> f64 {
    op.u_operand().map_or(0.0, |at| product_work(inputs[at], inputs[at + 1]))
}

/// How many logits there are.
pub(super) fn logits(h: &Type, w: &Type) -> f64 {
    h.shape.rows() as f64 * w.shape[0] as f64
}

/// One token's logits, their logarithmic sum and its target row; `None` for a masked token.
pub(super) struct Token {
    /// z[v] for each v.
    pub(super) logits: Vec<f64>,
    /// log Σ exp(logits).
    pub(super) lse: f64,
    /// The target, if it is a row of w.
    pub(super) target: Option<usize>,
}

/// Evaluates token `n`.
pub(super) fn token(op: &LinearCrossEntropy, inputs: &[&Array], n: usize) -> Option<Token> {
    let (h, w, targets) = (inputs[0], inputs[1], inputs[op.targets_operand()]);
    if targets.data[n] == f64::from(IGNORED) {
        return None;
    }
    let bias = |row: usize| if op.bias { inputs[2].data[row] } else { 0.0 };
    let low_rank = |row: usize| op.u_operand().map_or(0.0, |at| dot(inputs[at].row(n), inputs[at + 1].row(row)));
    let logit = |row: usize| softcap::capped(op.softcap, dot(h.row(n), w.row(row)) + low_rank(row) + bias(row));
    let logits: Vec<f64> = (0..w.rows()).map(logit).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
    Some(Token { logits, lse, target: row_of(targets.data[n], w.rows()) })
}

impl OpDef for LinearCrossEntropy {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let targets = self.targets_operand();
        operands(inputs, targets + 1)?;
        softcap::check(self.softcap)?;
        fit(self, inputs)?;
        Ok(vec![Type::new(DType::F32, inputs[targets].shape.clone())])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Head
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..self.targets_operand()
    }

    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        Workspace::Logits { tokens: inputs[0].shape.rows(), vocab: inputs[1].shape[0] }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dloss = cx.dy("linear_cross_entropy")?;
        let mut cotangents = vec![None; cx.inputs.len()];
        let at = self.u_operand();
        let (dh, dw, db) = (cx.needs[0], cx.needs[1], self.bias && cx.needs[2]);
        let (du, dup) = (at.is_some_and(|at| cx.needs[at]), at.is_some_and(|at| cx.needs[at + 1]));
        if dh || du || dw || db || dup {
            let LinearCrossEntropy { softcap, bias, low_rank } = *self;
            let op = LinearCrossEntropyGrad { dh, du, dw, db, dup, accumulate: false, softcap, bias, low_rank };
            let operands: Vec<ValueId> = cx.inputs.iter().copied().chain([dloss]).collect();
            let grads = cx.emit("dx", op.clone(), &operands)?;
            for (operand, gradient) in op.differentiated().into_iter().zip(grads) {
                cotangents[operand] = Some(gradient);
            }
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(product_work(inputs[0], inputs[1]) + low_rank_work(self, inputs), inputs, outputs)
            .with_inner(logits(inputs[0], inputs[1]))
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let mut loss = Array::zeros(results[0].shape.clone());
        for (n, loss) in loss.data.iter_mut().enumerate() {
            if let Some(token) = token(self, inputs, n) {
                *loss = token.lse - token.target.map_or(f64::NAN, |target| token.logits[target]);
            }
        }
        vec![loss]
    }

    /// The second sample is masked altogether; the fourth needs several chunks, one of them wholly masked; the next are capped, then some have a
    /// bias, and the last an adapter.
    fn samples() -> Vec<Sample> {
        let of = |softcap, rows: [usize; 2], width: usize, vocabulary: usize, masked: fn(usize) -> bool| {
            sample(LinearCrossEntropy { softcap, ..LinearCrossEntropy::PLAIN }, rows, [vocabulary, width], masked)
        };
        let biased = |softcap, rows: [usize; 2], width: usize, vocabulary: usize, masked: fn(usize) -> bool| {
            sample(LinearCrossEntropy { softcap, bias: true, low_rank: false }, rows, [vocabulary, width], masked)
        };
        vec![
            of(None, [1, 5], 7, 11, |n| n == 2),
            of(None, [2, 3], 4, 37, |_| true),
            of(None, [1, 1], 1, 1, |_| false),
            of(None, [1, 2 * MOST_CHUNK + 17], 20, 37, |n| n % 5 == 0 || n / MOST_CHUNK == 1),
            of(Some(2.0), [1, 5], 7, 11, |n| n == 2),
            of(Some(5.0), [2, 9], 20, 70, |n| n == 4),
            biased(None, [1, 5], 7, 11, |n| n == 2),
            biased(None, [2, 3], 4, 37, |_| true),
            biased(None, [1, MOST_CHUNK + 17], 20, 37, |n| n % 5 == 0),
            biased(Some(3.0), [2, 9], 20, 70, |n| n == 4),
            sample(LinearCrossEntropy { low_rank: true, ..LinearCrossEntropy::PLAIN }, [1, 5], [11, 7], |n| n == 2),
            sample(LinearCrossEntropy { softcap: Some(3.0), bias: true, low_rank: true }, [2, 9], [70, 20], |n| n == 4),
            sample(
                LinearCrossEntropy { low_rank: true, ..LinearCrossEntropy::PLAIN },
                [1, MOST_CHUNK + 17],
                [37, 20],
                |n| n % 5 == 0,
            ),
        ]
    }
}

/// A sample of an op on a head of these sizes, [V, D], some of whose tokens are masked.
fn sample(op: LinearCrossEntropy, rows: [usize; 2], [vocab, width]: [usize; 2], masked: fn(usize) -> bool) -> Sample {
    let (bias, low_rank, targets) = (op.bias, op.low_rank, op.targets_operand());
    let sample = Sample::new(op).normal([rows[0], rows[1], width]).normal([vocab, width]);
    let sample = if bias { sample.normal([vocab]) } else { sample };
    let sample = if low_rank { sample.normal([rows[0], rows[1], 3]).normal([vocab, 3]) } else { sample };
    let mut sample = sample.ids(rows, vocab as u32);
    for (n, target) in sample.inputs[targets].data.iter_mut().enumerate() {
        if masked(n) {
            *target = f64::from(IGNORED);
        }
    }
    sample
}
