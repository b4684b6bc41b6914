//! `linear_cross_entropy`: the language-model head and its loss per token, without a logits tensor:
//! loss[n] = log Σ over v of exp(z[v]) − z[target[n]], and 0 where the target is [`IGNORED`]; z[v] = h[n]·w[v], or with a cap
//! cap · tanh(h[n]·w[v] / cap).
//!
//! Operands: h [.., D], w [V, D], targets i32 [..]. Result: loss f32, of the shape of targets. The logits exist for
//! a chunk of tokens at a time, in workspace; the vocabulary is never cut, so that chunks do not change a bit.
//! Targets are checked where batches are made; one outside [0, V) has no meaning, and gives NaN here. Hsu et al.,
//! *Liger Kernel*, 2024, for the chunking.

use super::attention::dot;
use super::embedding::row_of;
use super::{IGNORED, LinearCrossEntropyGrad, OpDef, float, integer, operands, rank, softcap};
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
}

impl LinearCrossEntropy {
    /// Logits as they are.
    pub const PLAIN: LinearCrossEntropy = LinearCrossEntropy { softcap: None };
}

/// Checks h, w and targets, which the gradient and the fused form share.
pub(super) fn fit(h: &Type, w: &Type, targets: &Type) -> Result<(), String> {
    float("h", h)?;
    float("w", w)?;
    rank("w", w, 2)?;
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
pub(super) fn token(cap: Option<f32>, [h, w, targets]: [&Array; 3], n: usize) -> Option<Token> {
    if targets.data[n] == f64::from(IGNORED) {
        return None;
    }
    let logits: Vec<f64> = (0..w.rows()).map(|row| softcap::capped(cap, dot(h.row(n), w.row(row)))).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let lse = max + logits.iter().map(|z| (z - max).exp()).sum::<f64>().ln();
    Some(Token { logits, lse, target: row_of(targets.data[n], w.rows()) })
}

impl OpDef for LinearCrossEntropy {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        operands(inputs, 3)?;
        softcap::check(self.softcap)?;
        fit(inputs[0], inputs[1], inputs[2])?;
        Ok(vec![Type::new(DType::F32, inputs[2].shape.clone())])
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn class(&self, _inputs: &[&Type], _outputs: &[&Type]) -> OpClass {
        OpClass::Head
    }

    fn activations(&self, _operands: usize) -> Range<usize> {
        0..2
    }

    fn workspace(&self, inputs: &[&Type]) -> Workspace {
        Workspace::Logits { tokens: inputs[0].shape.rows(), vocab: inputs[1].shape[0] }
    }

    fn vjp(&self, cx: &mut Vjp<'_>) -> Result<Vec<Option<ValueId>>, IrError> {
        let dloss = cx.dy("linear_cross_entropy")?;
        let (dh, dw) = (cx.needs[0], cx.needs[1]);
        let mut cotangents = vec![None; 3];
        if dh || dw {
            let op = LinearCrossEntropyGrad { dh, dw, accumulate: false, softcap: self.softcap };
            let mut grads = cx.emit("dx", op, &[cx.inputs[0], cx.inputs[1], cx.inputs[2], dloss])?.into_iter();
            cotangents[0] = if dh { grads.next() } else { None };
            cotangents[1] = if dw { grads.next() } else { None };
        }
        Ok(cotangents)
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(product_work(inputs[0], inputs[1]), inputs, outputs)
            .with_inner(logits(inputs[0], inputs[1]))
    }

    fn eval(&self, inputs: &[&Array], results: &[&Type]) -> Vec<Array> {
        let (h, w, targets) = (inputs[0], inputs[1], inputs[2]);
        let mut loss = Array::zeros(results[0].shape.clone());
        for (n, loss) in loss.data.iter_mut().enumerate() {
            if let Some(token) = token(self.softcap, [h, w, targets], n) {
                *loss = token.lse - token.target.map_or(f64::NAN, |target| token.logits[target]);
            }
        }
        vec![loss]
    }

    /// The second sample is masked altogether; the fourth needs several chunks, one of them wholly masked; the last are capped.
    fn samples() -> Vec<Sample> {
        let of = |softcap, rows: [usize; 2], width: usize, vocabulary: usize, masked: fn(usize) -> bool| {
            let sample = Sample::new(LinearCrossEntropy { softcap })
                .normal([rows[0], rows[1], width])
                .normal([vocabulary, width])
                .ids(rows, vocabulary as u32);
            mask(sample, masked)
        };
        vec![
            of(None, [1, 5], 7, 11, |n| n == 2),
            of(None, [2, 3], 4, 37, |_| true),
            of(None, [1, 1], 1, 1, |_| false),
            of(None, [1, 2 * MOST_CHUNK + 17], 20, 37, |n| n % 5 == 0 || n / MOST_CHUNK == 1),
            of(Some(2.0), [1, 5], 7, 11, |n| n == 2),
            of(Some(5.0), [2, 9], 20, 70, |n| n == 4),
        ]
    }
}

fn mask(mut sample: Sample, masked: fn(usize) -> bool) -> Sample {
    for (n, target) in sample.inputs[2].data.iter_mut().enumerate() {
        if masked(n) {
            *target = f64::from(IGNORED);
        }
    }
    sample
}
