//! `linear_cross_entropy_grad`: with dlogits[n] = dloss[n] · (softmax(z[n]) − onehot(target[n])), 0 where masked, times
//! 1 − (z[n] / cap)² where logits are capped: dh = dlogits·w, dw = dlogitsᵀ·h and db = Σ over n of dlogits[n].
//!
//! Operands: those of `linear_cross_entropy`, dloss f32 [..], then, if `accumulate`, the gradient states that dw f32 [V, D] and
//! db f32 [V] are added onto in place, as far as they are wanted. Results: dh like h if `dh`, dw f32 [V, D] if `dw`, db f32 [V] if
//! `db`. The logits are made again, a chunk of tokens at a time, in workspace.

use super::linear_cross_entropy::{LinearCrossEntropy, before_targets, fit, is_false, logits, product_work, token};
use super::{Op, OpDef, operands, softcap, typed};
use crate::{Array, Cost, IrError, OpClass, Sample, Type, ValueId, Vjp, Workspace};
use remat_tensor::{DType, Shape};
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
    /// Whether the gradient of the bias is wanted; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub db: bool,
    /// Whether the last operands are gradient states of what is wanted of w and the bias, to add onto.
    pub accumulate: bool,
    /// Logits z become cap · tanh(z / cap); not where the text form says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub softcap: Option<f32>,
    /// Whether a bias is added to the logits; not where the text form says nothing.
    #[serde(default, skip_serializing_if = "is_false")]
    pub bias: bool,
}

impl LinearCrossEntropyGrad {
    /// The op that this is the gradient of.
    pub fn forward(&self) -> LinearCrossEntropy {
        LinearCrossEntropy { softcap: self.softcap, bias: self.bias }
    }

    /// Index of dloss among the operands.
    pub fn dloss_operand(&self) -> usize {
        before_targets(self.bias) + 1
    }

    /// Index of dw among the results.
    pub fn dw_result(&self) -> Option<usize> {
        self.dw.then_some(usize::from(self.dh))
    }

    /// Index of db among the results.
    pub fn db_result(&self) -> Option<usize> {
        self.db.then_some(usize::from(self.dh) + usize::from(self.dw))
    }

    /// The names of the results.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        let all = [(self.dh, "dh"), (self.dw, "dw"), (self.db, "db")];
        all.into_iter().filter(|wanted| wanted.0).map(|wanted| wanted.1)
    }

    /// Number of products between all tokens and w: the logits, and one for each gradient but the bias's.
    pub(super) fn products(&self) -> f64 {
        1.0 + f64::from(u8::from(self.dh)) + f64::from(u8::from(self.dw))
    }
}

impl OpDef for LinearCrossEntropyGrad {
    fn infer(&self, inputs: &[&Type]) -> Result<Vec<Type>, String> {
        if !self.dh && !self.dw && !self.db {
            return Err("at least one of the attributes dh, dw and db must be true".to_string());
        }
        if self.accumulate && !self.dw && !self.db {
            return Err("attribute accumulate needs dw or db".to_string());
        }
        if self.db && !self.bias {
            return Err("attribute db needs bias".to_string());
        }
        softcap::check(self.softcap)?;
        let dloss = self.dloss_operand();
        let states = if self.accumulate { usize::from(self.dw) + usize::from(self.db) } else { 0 };
        operands(inputs, dloss + 1 + states)?;
        fit(self.bias, inputs)?;
        let (h, w, targets) = (inputs[0], inputs[1], inputs[dloss - 1]);
        typed("dloss", inputs[dloss], DType::F32, &targets.shape)?;
        let dw = self.dw.then(|| Type::new(DType::F32, w.shape.clone()));
        let db = self.db.then(|| Type::new(DType::F32, [w.shape[0]]));
        let of_parameters: Vec<Type> = dw.into_iter().chain(db).collect();
        for (state, gradient) in inputs[dloss + 1..].iter().zip(&of_parameters) {
            typed("the gradient", state, DType::F32, &gradient.shape)?;
        }
        Ok(self.dh.then(|| h.clone()).into_iter().chain(of_parameters).collect())
    }

    fn result_name(&self, index: usize) -> &'static str {
        self.names().nth(index).unwrap_or("result")
    }

    fn donations(&self) -> Vec<(usize, usize)> {
        let wanted = self.dw_result().into_iter().chain(self.db_result());
        let states = self.dloss_operand() + 1..;
        states.zip(wanted.filter(|_| self.accumulate)).collect()
    }

    fn is_contraction(&self) -> bool {
        true
    }

    fn accumulating(&self) -> Option<(Op, usize)> {
        let op = LinearCrossEntropyGrad { accumulate: true, ..self.clone() };
        ((self.dw || self.db) && !self.accumulate).then(|| (op.into(), usize::from(self.dh)))
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
        Err(cx.refuse("linear_cross_entropy_grad", "second derivatives are not supported"))
    }

    fn cost(&self, inputs: &[&Type], outputs: &[&Type]) -> Cost {
        Cost::new(self.products() * product_work(inputs[0], inputs[1]), inputs, outputs)
            .with_inner(logits(inputs[0], inputs[1]))
    }

    fn eval(&self, inputs: &[&Array], _results: &[&Type]) -> Vec<Array> {
        let (h, w, dloss) = (inputs[0], inputs[1], inputs[self.dloss_operand()]);
        let mut states = inputs[self.dloss_operand() + 1..].iter().map(|&state| state.clone());
        let mut start = |wanted: bool, shape: Shape| {
            let state = if wanted && self.accumulate { states.next() } else { None };
            state.unwrap_or_else(|| Array::zeros(shape))
        };
        let mut dh = Array::zeros(h.shape.clone());
        let (mut dw, mut db) = (start(self.dw, w.shape.clone()), start(self.db, Shape::from([w.rows()])));
        for n in 0..h.rows() {
            let Some(token) = token(&self.forward(), inputs, n) else { continue };
            for (row, z) in token.logits.iter().enumerate() {
                let onehot = if token.target == Some(row) { 1.0 } else { 0.0 };
                let dlogit = dloss.data[n] * ((z - token.lse).exp() - onehot) * softcap::slope(self.softcap, *z);
                dh.row_mut(n).iter_mut().zip(w.row(row)).for_each(|(sum, w)| *sum += dlogit * w);
                dw.row_mut(row).iter_mut().zip(h.row(n)).for_each(|(sum, h)| *sum += dlogit * h);
                db.data[row] += dlogit;
            }
        }
        let all = [(self.dh, dh), (self.dw, dw), (self.db, db)];
        all.into_iter().filter(|wanted| wanted.0).map(|wanted| wanted.1).collect()
    }

    fn samples() -> Vec<Sample> {
        let wanted = [(true, false, false), (false, true, false), (true, true, true)];
        samples_of(&wanted, |gradient| gradient.into())
    }
}

/// Samples of the gradient, or of the op that has it as a part, for each choice of dh, dw and accumulate: the gradient of a
/// bias is wanted where that of the weight is, and once without it.
pub(super) fn samples_of(
    wanted: &[(bool, bool, bool)],
    op: impl Fn(LinearCrossEntropyGrad) -> Op,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    for sample in LinearCrossEntropy::samples() {
        let Op::LinearCrossEntropy(LinearCrossEntropy { softcap, bias }) = sample.op else { continue };
        let of = |dh, dw, db, accumulate| LinearCrossEntropyGrad { dh, dw, db, accumulate, softcap, bias };
        let mut gradients: Vec<_> = wanted.iter().map(|&(dh, dw, accumulate)| of(dh, dw, dw && bias, accumulate)).collect();
        gradients.extend(bias.then(|| of(true, false, true, true)));
        samples.extend(gradients.into_iter().map(|gradient| with_cotangent(&sample, gradient, &op)));
    }
    samples
}

/// The operands of `forward`, a cotangent, and gradient states where they are added onto.
fn with_cotangent(forward: &Sample, gradient: LinearCrossEntropyGrad, op: impl Fn(LinearCrossEntropyGrad) -> Op) -> Sample {
    let LinearCrossEntropyGrad { dw, db, accumulate, .. } = gradient;
    let (targets, weight) = (gradient.dloss_operand() - 1, forward.types[1].shape.clone());
    let sample = (0..=targets).fold(Sample::new(op(gradient)), |sample, index| sample.operand(forward, index));
    let sample = sample.normal_around(forward.types[targets].shape.clone(), 0.1, 0.05);
    let sample = if accumulate && dw { sample.normal(weight.clone()) } else { sample };
    if accumulate && db { sample.normal([weight[0]]) } else { sample }
}
