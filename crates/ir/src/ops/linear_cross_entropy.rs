//! `linear_cross_entropy`: the language-model head and its loss per token, without a logits tensor:
//! loss[n] = log Σ over v of exp(z[v]) − z[target[n]], and 0 where the target is [`IGNORED`]; z[v] = h[n]·w[v] + b[v], or with
//! a cap cap · tanh((h[n]·w[v] + b[v]) / cap).
//!
//! Operands: h [.., D], w [V, D], then the head's bias b [V] if `bias`, then targets i32 [..]. Result: loss f32, of the shape
//! of targets. The logits exist for a chunk of tokens at a time, in workspace; the vocabulary is never cut, so that chunks do not change a bit.
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
}

/// Whether an attribute is left out of the text form.
pub(super) fn is_false(flag: &bool) -> bool {
    !flag
}

impl LinearCrossEntropy {
    /// Logits as they are, without a bias.
    pub const PLAIN: LinearCrossEntropy = LinearCrossEntropy { softcap: None, bias: false };
}

/// How many operands stand before the targets.
pub(super) fn before_targets(bias: bool) -> usize {
    2 + usize::from(bias)
}

/// Checks h, w, the bias if there is one, and targets, which the gradient and the fused form share.
pub(super) fn fit(bias: bool, inputs: &[&Type]) -> Result<(), String> {
    let (h, w, targets) = (inputs[0], inputs[1], inputs[before_targets(bias)]);
    float("h", h)?;
    float("w", w)?;
    rank("w", w, 2)?;
    if bias {
        typed("bias", inputs[2], w.dtype, &[w.shape[0]])?;
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
    let (h, w, targets) = (inputs[0], inputs[1], inputs[before_targets(op.bias)]);
    if targets.data[n] == f64::from(IGNORED) {
        return None;
    }
    let bias = |row: usize| if op.bias { inputs[2].data[row] } else { 0.0 };
    let logit = |row: usize| softcap::capped(op.softcap, dot(h.row(n), w.row(row)) + bias(row));
    let logits: Vec<f64> = (0..w.rows()).map(logit).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
    Some(Token { logits, lse, target: row_of(targets.data[n], w.rows()) })
}

impl OpDef for LinearCrossEntropy {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        let targets = before_targets(self.bias);
        operands(inputs, targets + 1)?;
        softcap::check(self.softcap)?;
        fit(self.bias, inputs)?;
        Ok(vec![Type::new(DType::F32, inputs[targets].shape.clone())])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Head
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..before_targets(self.bias)
    }

    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        Workspace::Logits { tokens: inputs[0].shape.rows(), vocab: inputs[1].shape[0] }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dloss = cx.dy("linear_cross_entropy")?;
        let mut cotangents = vec![None; cx.inputs.len()];
        let (dh, dw, db) = (cx.needs[0], cx.needs[1], self.bias && cx.needs[2]);
        if dh || dw || db {
            let LinearCrossEntropy { softcap, bias } = *self;
            let op = LinearCrossEntropyGrad { dh, dw, db, accumulate: false, softcap, bias };
            let operands: Vec<ValueId> = cx.inputs.iter().copied().chain([dloss]).collect();
            let mut grads = cx.emit("dx", op, &operands)?.into_iter();
            for (cotangent, _) in cotangents.iter_mut().zip([dh, dw, db]).filter(|(_, wanted)| *wanted) {
                *cotangent = grads.next();
            }
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(product_work(inputs[0], inputs[1]), inputs, outputs)
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

    /// The second sample is masked altogether; the fourth needs several chunks, one of them wholly masked; the next are capped, the last have a
    /// bias.
    fn samples() -> Vec<Sample> {
        let of = |softcap, rows: [usize; 2], width: usize, vocabulary: usize, masked: fn(usize) -> bool| {
            sample(LinearCrossEntropy { softcap, bias: false }, rows, [vocabulary, width], masked)
        };
        let biased = |softcap, rows: [usize; 2], width: usize, vocabulary: usize, masked: fn(usize) -> bool| {
            sample(LinearCrossEntropy { softcap, bias: true }, rows, [vocabulary, width], masked)
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
        ]
    }
}

/// A sample of an op on a head of these sizes, [V, D], some of whose tokens are masked.
fn sample(op: LinearCrossEntropy, rows: [usize; 2], [vocab, width]: [usize; 2], masked: fn(usize) -> bool) -> Sample {
    let (bias, targets) = (op.bias, before_targets(op.bias));
    let sample = Sample::new(op).normal([rows[0], rows[1], width]).normal([vocab, width]);
    let sample = if bias { sample.normal([vocab]) } else { sample };
    let mut sample = sample.ids(rows, vocab as u32);
    for (n, target) in sample.inputs[targets].data.iter_mut().enumerate() {
        if masked(n) {
            *target = f64::from(IGNORED);
        }
    }
    sample
}
