//! `linear_cross_entropy_grad`: with dlogits[n] = dloss[n] · (softmax(z[n]) − onehot(target[n])), 0 where masked, times
//! 1 − (z[n] / cap)² where logits are capped: dh = dlogits·w and dw = dlogitsᵀ·h.
//!
//! Operands: h [.., D], w [V, D], targets i32 [..], dloss f32 [..], then, if `accumulate`, the gradient state f32 [V, D]
//! that dw is added onto in place. Results: dh like h if `dh`, then dw f32 [V, D] if `dw`. The logits are made again, a
//! chunk of tokens at a time, in workspace.

use super::linear_cross_entropy::{LinearCrossEntropy, fit, logits, product_work, token};
use super::{Op, OpDef, operands, softcap, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use remat_tensor::DType;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// Attributes of `linear_cross_entropy_grad`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinearCrossEntropyGrad {
    /// Whether the gradient of h is wanted.
    pub dh: bool,
    /// Whether the gradient of w is wanted.
    pub dw: bool,
    /// Whether the last operand is a gradient state of w to add onto.
    pub accumulate: bool,
    /// Logits z become cap · tanh(z / cap); not where the text form says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
}

impl LinearCrossEntropyGrad {
    /// Index of dw among the results.
    pub fn dw_result(&self) -> Option<usize> {
        self.dw.then_some(usize::from(self.dh))
    }

    /// The names of the results.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        [(self.dh, "dh"), (self.dw, "dw")].into_iter().filter(|wanted| wanted.0).map(|wanted| wanted.1)
    }

    /// Number of products between all tokens and w: the logits, and one for each gradient.
    pub(super) fn products(&self) -> f64 {
        1.0 + f64::from(u8::from(self.dh)) + f64::from(u8::from(self.dw))
    }
}

impl OpDef for LinearCrossEntropyGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        if !self.dh && !self.dw {
            return Err("at least one of the attributes dh and dw must be true".to_string());
        }
        if self.accumulate && !self.dw {
            return Err("attribute accumulate needs dw".to_string());
        }
        softcap::check(self.softcap)?;
        operands(inputs, 4 + usize::from(self.accumulate))?;
        let (h, w, targets) = (inputs[0], inputs[1], inputs[2]);
        fit(h, w, targets)?;
        typed("dloss", inputs[3], DType::F32, &targets.shape)?;
        if self.accumulate {
            typed("the gradient", inputs[4], DType::F32, &w.shape)?;
        }
        let dh = self.dh.then(|| h.clone());
        let dw = self.dw.then(|| Type::new(DType::F32, w.shape.clone()));
        Ok(dh.into_iter().chain(dw).collect())
    }

    fn result_name(&self, index: usize) -> &'static str {
        self.names().nth(index).unwrap_or("result")
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        let dw = self.dw_result().filter(|_| self.accumulate);
        dw.map(|result| (4, result)).into_iter().collect()
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        (self.dw && !self.accumulate).then(|| (LinearCrossEntropyGrad { accumulate: true, ..self.clone() }.into(), usize::from(self.dh)))
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
        Err(cx.refuse("linear_cross_entropy_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.products() * product_work(inputs[0], inputs[1]), inputs, outputs)
            .with_inner(logits(inputs[0], inputs[1]))
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (h, w, targets, dloss) = (inputs[0], inputs[1], inputs[2], inputs[3]);
        let mut dh = Array::zeros(h.shape.clone());
        let mut dw = if self.accumulate { inputs[4].clone() } else { Array::zeros(w.shape.clone()) };
        for n in 0..h.rows() {
            let Some(token) = token(self.softcap, [h, w, targets], n) else { continue };
            for (row, z) in token.logits.iter().enumerate() {
                let onehot = if token.target == Some(row) { 1.0 } else { 0.0 };
                let dlogit = dloss.data[n] * ((z - token.lse).exp() - onehot) * softcap::slope(self.softcap, *z);
                dh.row_mut(n).iter_mut().zip(w.row(row)).for_each(|(sum, w)| *sum += dlogit * w);
                dw.row_mut(row).iter_mut().zip(h.row(n)).for_each(|(sum, h)| *sum += dlogit * h);
            }
        }
        [(self.dh, dh), (self.dw, dw)].into_iter().filter(|wanted| wanted.0).map(|wanted| wanted.1).collect()
    }

    fn samples() -> Vec<Sample> {
        let mut samples = Vec::new();
        for forward in LinearCrossEntropy::samples() {
            let softcap = cap_of(&forward);
            for (dh, dw, accumulate) in [(true, false, false), (false, true, false), (true, true, true)] {
                let op = LinearCrossEntropyGrad { dh, dw, accumulate, softcap };
                samples.push(with_cotangent(&forward, op, accumulate));
            }
        }
        samples
    }
}

/// The cap of a sample of the forward.
pub(super) fn cap_of(forward: &Sample) -> Option<f32> {
    let Op::LinearCrossEntropy(LinearCrossEntropy { softcap }) = forward.op else { return None };
    softcap
}

/// The operands of `forward`, a cotangent, and a gradient state if wanted.
pub(super) fn with_cotangent(forward: &Sample, op: impl Into<crate::Op>, accumulate: bool) -> Sample {
    let sample = (0..3).fold(Sample::new(op), |sample, index| sample.operand(forward, index));
    let sample = sample.normal_around(forward.types[2].shape.clone(), 0.1, 0.05);
    if accumulate { sample.normal(forward.types[1].shape.clone()) } else { sample }
}
